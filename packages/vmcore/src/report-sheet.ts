import type { DumpReport } from '@libkvm/minidump-core';

/** What a dump holds and what was left out, as an aligned sheet. */
export function reportSheet(file: string, report: DumpReport): string {
  const { pages, dropped, damage, tables } = report;
  const missing = damage.tablesAbsent + damage.tablesTruncated;
  const rows: readonly (readonly [string, string])[] = [
    ['file', `${file}, ${bytes(report.size)}`],
    [
      'format',
      `${report.format}${report.version === undefined ? '' : ` version ${report.version}`}, ${report.architecture}`,
    ],
    ['pages', `${pages}${report.added > 0 ? `, ${report.added} of them added by hand` : ''}`],
    ['mappings', `${report.mappings}, ${bytes(report.mappedBytes)} of KVA`],
    [
      'left out',
      `${dropped.outsideRam} outside of RAM, ${dropped.absent} not in the source, ${dropped.byHand} by hand` +
        (dropped.truncated > 0 ? `; the source's file ends before ${dropped.truncated} of its pages` : ''),
    ],
    ['metadata', `${bytes(report.metadataBytes)}, ${(report.metadataShare * 100).toFixed(2)} % of the file`],
    ['tables', tableText(tables)],
    ...(missing + damage.unsupportedEntries + damage.loops > 0
      ? [
          [
            'damage',
            `${missing} tables missing, ${damage.unsupportedEntries} entries not understood`,
          ] as const,
        ]
      : []),
    ...report.losses.map((loss) => ['lost', loss] as const),
    ...(report.remarks ?? []).map((remark) => ['remark', remark] as const),
  ];
  return rows.map(([name, text]) => `${name.padEnd(9)} ${text}\n`).join('');
}

function tableText({ bytes: size, segments, leaves, flatBytes, pages }: DumpReport['tables']): string {
  return (
    (segments === undefined
      ? ''
      : `${segments} segments${leaves === undefined ? '' : `, ${leaves} leaves`}: `) +
    bytes(size) +
    (flatBytes === undefined ? '' : ` (FLAT: ${bytes(flatBytes)})`) +
    (pages === undefined ? '' : `, and ${pages} page-table pages among the pages`)
  );
}

function bytes(count: number): string {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  const power = count < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(count) / 10));
  return power === 0 ? `${count} bytes` : `${(count / 1024 ** power).toFixed(1)} ${units[power]}`;
}
