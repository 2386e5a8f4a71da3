// The figures as a table for people.

export function printTable({ machine, files, figures }) {
  console.log(`Node ${machine.node}, ${machine.cpus} x ${machine.cpu}`);
  for (const [name, bytes] of Object.entries(files)) console.log(`${name}: ${bytes} bytes`);
  console.log();
  const head = ['figure', 'measured', 'floor', 'ratio', 'target', '', 'C reader', 'the floor is'];
  const rows = figures.map(cells);
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  const numeric = new Set([1, 2, 3, 4, 6]);
  for (const row of [head, widths.map((width) => '-'.repeat(width)), ...rows]) {
    const padded = row.map((cell, i) => (numeric.has(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i])));
    console.log(padded.join('  ').trimEnd());
  }
}

function cells({ name, unit, value, floor, floorIs = '', ratio, limit, ambition, c, verdict }) {
  const withUnit = (number) => (number === undefined ? '' : `${precise(number)} ${unit}`);
  const target = limit === undefined ? '' : `<= ${ratio === undefined ? withUnit(limit) : limit.toFixed(2)}`;
  const wish = ambition === undefined ? '' : ` (${withUnit(ambition)})`;
  return [
    name,
    withUnit(value),
    withUnit(floor),
    ratio?.toFixed(2) ?? '',
    target + wish,
    verdict,
    withUnit(c),
    floorIs,
  ];
}

function precise(number) {
  return number >= 100 ? number.toFixed(0) : number >= 10 ? number.toFixed(1) : number.toFixed(2);
}
