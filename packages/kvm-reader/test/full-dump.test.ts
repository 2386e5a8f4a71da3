import {
  amd64KernelWorld,
  armKernelWorld,
  i386KernelWorld,
  sampleMachine,
  elfFullDump,
  type KernelWorld,
} from '@libkvm/fixtures';
import { isKvmError } from '@libkvm/minidump-core';
import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import type { Kvm } from '../src/kvm.js';
import { defaultArchitectures as architectures } from '../src/node.js';
import { openKvm, type OpenOptions } from '../src/open.js';
import { openKvmAsync } from '../src/open-async.js';
import { elfCore } from './support/elf-bytes.js';
import { caught } from './support/faults.js';
import { runs } from './support/long.js';
import { sparseSource } from './support/open.js';
import { WORLDS } from './support/worlds.js';

type Options = Partial<OpenOptions>;

const openFull = (world: KernelWorld, options: Options = {}): Kvm =>
  openKvm(world.fullDump().file.bytes(), { architectures, kernel: world.kernel, ...options });
const protection = ({ writable, executable }: { writable: boolean; executable: boolean }): string =>
  `r${writable ? 'w' : '-'}${executable ? 'x' : '-'}`;

/** The pages of a walk that RAM has, by 4 KB: where each leads and what it allows. */
function granules(kvm: Kvm, { window, ram }: KernelWorld): Map<bigint, string> {
  const found = new Map<bigint, string>();
  for (const { kva, pa, protection: rights, length, offset } of kvm.pages(window)) {
    if (kva === undefined || pa === undefined || offset === undefined) continue;
    for (let at = 0; at < length; at += 4096) {
      if (ram.has(pa + at)) found.set(kva + BigInt(at), `${pa + at} ${rights}`);
    }
  }
  return found;
}

describe.each(WORLDS)('the full dump of %s', (_name, make) => {
  const world = make();
  const full = openFull(world);

  it('says what its kernel told', () => {
    const { core } = full;
    expect(core).toMatchObject({ format: 'elf', architecture: world.architecture, kernbase: world.kernbase });
    expect([core.warnings.filter((text) => !text.includes('PT_DUMP_DELTA')), core.whyPhysicalOnly]).toEqual([
      [],
      undefined,
    ]);
    const name = world.architecture === 'arm' ? 'TTBR0' : 'CR3';
    expect(core.notes?.registers).toMatch(
      new RegExp(`^cpu0 .*${name}=0x${world.registers[name].toString(16)} `),
    );
    expect(full.checkMatch().verdict).toBe('match');
    expect(full.messageBuffer()?.text).toBe(world.messages);
    expect(full.readCString(full.symbol('version'))).toBe(world.version);
  });

  it('resolves and reads every page that is mapped', () => {
    expect(world.pages.length).toBeGreaterThan(1000);
    for (const page of world.pages) {
      const kva = page + (page % 4093n) - (page % 4n);
      const answer = world.translate(kva)!;
      const resolved = full.resolve(kva);
      expect([resolved.physicalAddress, resolved.protection]).toEqual([answer.pa, protection(answer)]);
    }
    for (const page of world.pages) {
      const { pa } = world.translate(page)!;
      if (Buffer.compare(full.read(page, 4096), world.ram.readBytes(pa, 4096)) !== 0) {
        throw new Error(`other bytes at 0x${page.toString(16)}`);
      }
    }
  });

  it('says the same as the minidump of the machine', () => {
    const mini = openKvm(world.minidump(), { architectures, kernel: world.kernel });
    const inMini = granules(mini, world);
    const inFull = granules(full, world);
    expect(inFull.size).toBe(
      world.pages.filter((kva) => kva >= world.window.from && kva < world.window.to).length,
    );
    expect([...inFull]).toEqual([...inMini]);
    for (const kva of inFull.keys()) {
      const [a, b] = [full.resolve(kva), mini.resolve(kva)];
      expect([a.physicalAddress, a.protection]).toEqual([b.physicalAddress, b.protection]);
      if (Buffer.compare(full.read(kva, 64), mini.read(kva, 64)) !== 0) {
        throw new Error(`other bytes at 0x${kva.toString(16)}`);
      }
    }
  });

  it('lists every page of RAM, mapped or not', () => {
    const seen = new Set<number>();
    for (const { pa, length, offset } of full.pages()) {
      if (pa === undefined || offset === undefined) continue;
      for (let at = 0; at < length; at += 4096) seen.add(Math.floor((pa + at) / 4096));
    }
    const all = world.ram.ranges.reduce((sum, { start, end }) => sum + (end - start) / 4096, 0);
    expect(seen.size).toBe(all);
  });

  it('answers the same asynchronously', async () => {
    const bytes = world.fullDump().file.bytes();
    const late = async (offset: number, length: number): Promise<Uint8Array> => {
      await Promise.resolve();
      return bytes.slice(offset, offset + length);
    };
    const kvm = await openKvmAsync(
      { size: bytes.length, read: late },
      { architectures, kernel: new Blob([world.kernel]), cacheBytes: 1 << 20 },
    );
    expect(kvm.core.notes).toEqual(full.core.notes);
    const kva = world.pages[world.pages.length >> 1];
    expect(await kvm.resolve(kva)).toEqual(full.resolve(kva));
    expect((await kvm.messageBuffer())?.text).toBe(world.messages);
  });
});

describe('a full dump', () => {
  const world = amd64KernelWorld({ kernphys: 0x1c00000, delta: 'kernload' });
  const file = world.fullDump().file.bytes();
  const [kva] = world.pages;

  it('without a kernel has physical memory only, and says what it needs', () => {
    for (const plain of [amd64KernelWorld, () => i386KernelWorld({ release: '13', pae: true })]) {
      const some = plain();
      const kvm = openKvm(some.fullDump().file.bytes(), { architectures });
      expect(kvm.core.addressSpace).toBeUndefined();
      expect(kvm.core.warnings).toEqual([expect.stringContaining('no kernel was given')]);
      const error = caught(() => kvm.resolve(some.pages[0]), 'UNSUPPORTED');
      expect(error.message).toContain('no kernel was given');
      expect(error.hint).toMatch(/--kernel.*--reg/);
      caught(() => kvm.read(some.pages[0], 4), 'UNSUPPORTED');
      expect(kvm.readPhysical(0x1000, 64)).toEqual(some.ram.readBytes(0x1000, 64));
      expect([...kvm.pages()].length).toBeGreaterThan(0);
    }
  });

  it('is opened by a resolver as well', () => {
    const kvm = openKvm(file, { architectures, resolver: (name) => world.symbols[name] });
    expect(kvm.resolve(kva).physicalAddress).toBe(world.translate(kva)?.pa);
  });

  it('is walked by registers given by hand, before those found', () => {
    const byHand = openKvm(file, { architectures, image: { registers: world.registers } });
    expect(byHand.resolve(kva).physicalAddress).toBe(world.translate(kva)?.pa);
    // An empty page as the root: nothing is mapped, whatever the kernel says.
    const empty = world.ram.ranges[0].start;
    world.ram.clearPage(empty);
    const wrong = openKvm(world.fullDump().file.bytes(), {
      ...{ architectures, kernel: world.kernel },
      image: { registers: { CR3: BigInt(empty) } },
    });
    caught(() => wrong.resolve(kva), 'NOT_MAPPED');
  });

  it('lends the registers it found to those by hand that do not suffice', () => {
    const arm = armKernelWorld({ format: 'v6-afe' });
    const image = { registers: { SCTLR: 0x800001n } };
    const kvm = openFull(arm, { image });
    expect(kvm.core.notes?.registers).toMatch(/TTBR0=.* SCTLR=0x800001$/m);
    expect(kvm.resolve(arm.pages[0]).physicalAddress).toBe(arm.translate(arm.pages[0])?.pa);
    expect(caught(() => openFull(arm, { kernel: undefined!, image }), 'INVALID_ARGUMENT').field).toBe(
      'TTBR0',
    );
  });

  it('of arm is walked in the format that is asked for', () => {
    const arm = armKernelWorld({ format: 'v6-afe' });
    expect(openFull(arm).core.pteFormat).toBe('v6');
    expect(openFull(arm, { image: { pteFormat: 'xscale' } }).core.pteFormat).toBe('xscale');
    caught(() => openFull(arm, { image: { pteFormat: 'v9' } }), 'INVALID_ARGUMENT');
    const lpae = openFull(arm, { image: { pteFormat: 'lpae' } });
    expect(caught(() => lpae.resolve(arm.pages[0]), 'UNSUPPORTED').hint).toContain('TTBR0');
    for (const [format, name] of [
      ['v4', 'v4'],
      ['xscale', 'xscale'],
    ] as const) {
      expect(openFull(armKernelWorld({ format })).core.pteFormat).toBe(name);
    }
    expect(openFull(armKernelWorld({ format: 'v6-afe', pmapKernTtb: false })).core.pteFormat).toBe('v6');
  });

  it('tells where it found the kernel', () => {
    expect(openFull(world).core).toMatchObject({ warnings: [], notes: { kernphys: '0x1c00000' } });
    const other = amd64KernelWorld({ kernphys: 0x1c00000, delta: 'kernbase' });
    expect(openFull(other).core.notes?.kernphys).toBe('0x1c00000');
    const misled = amd64KernelWorld({ kernphys: 0x30000000 });
    const delta = { vaddr: 0xffffffff80000000n, paddr: 0x4000000, align: 0x200000 };
    const kvm = openKvm(misled.fullDump({ delta }).file.bytes(), { architectures, kernel: misled.kernel });
    expect(kvm.core.notes?.kernphys).toBe('0x30000000');
    expect(kvm.core.warnings).toEqual([expect.stringContaining('PT_DUMP_DELTA')]);
  });

  it('may have ranges that are no whole pages', () => {
    const { machine, kernel } = sampleMachine();
    const { file: exact, segments } = elfFullDump(machine.ram, {
      ...{ class: 64, byteOrder: 'little', machine: 62, exact: true },
    });
    expect(segments.some(({ offset }) => offset % 4096 !== 0)).toBe(true);
    const kvm = openKvm(exact.bytes(), { architectures, kernel });
    for (const { kva: from, pages, pageSize } of machine.description.mappings) {
      for (let at = 0; at < pages * pageSize; at += 0x10000) {
        const expected = machine.read(from + BigInt(at), 128);
        if (expected) expect(Buffer.compare(kvm.read(from + BigInt(at), 128), expected)).toBe(0);
      }
    }
    const end = machine.description.dmap.base + 0x9fc00n;
    expect(kvm.read(end - 16n, 16)).toEqual(machine.ram.readBytes(0x9fbf0, 16));
    caught(() => kvm.read(end, 1), 'NOT_DUMPED');
  });

  it('that is far away is searched place by place', async () => {
    const some = amd64KernelWorld({ kernphys: 0x06e00000 });
    const { file: dump, segments } = some.fullDump();
    const bytes = dump.bytes();
    // All of RAM is one segment: each place that the kernel may be at has to be fetched.
    const length = 0x100040000n;
    const head = elfCore({ segments: [{ paddr: 0n, filesz: length, memsz: length, offset: 0x1000 }] });
    const pieces = segments.map(({ pa, offset, length: size }): [number, Uint8Array] => [
      0x1000 + pa,
      bytes.subarray(offset, offset + size),
    ]);
    const source = sparseSource(0x1000 + Number(length), [[0, head], ...pieces]);
    const far = {
      size: source.size,
      read: async (offset: number, size: number): Promise<Uint8Array> => {
        const target = new Uint8Array(size);
        await Promise.resolve(source.readSync(offset, target, 0, size));
        return target;
      },
    };
    const kvm = await openKvmAsync(far, { architectures, kernel: some.kernel });
    expect(kvm.core.notes?.kernphys).toBe('0x6e00000');
    expect(kvm.fetched.requests).toBeLessThan(0x06e00000 / 0x200000 + 10);
    expect((await kvm.resolve(some.pages[0])).physicalAddress).toBe(some.translate(some.pages[0])?.pa);
  });

  it('that is cut answers what is left', () => {
    const { segments } = world.fullDump();
    const image = segments.find(({ pa }) => pa === 0x1c00000)!;
    const gone = openKvm(file.slice(0, image.offset), { architectures, kernel: world.kernel });
    expect(gone.core.whyPhysicalOnly?.code).toBe('TRUNCATED');
    caught(() => gone.resolve(kva), 'UNSUPPORTED');
    const tables = openKvm(file.slice(0, image.offset + image.length), {
      architectures,
      kernel: world.kernel,
    });
    expect(tables.core.whyPhysicalOnly?.code).toBe('MISMATCH');
    const most = openKvm(file.slice(0, -0x20000), { architectures, kernel: world.kernel });
    expect(most.resolve(kva).physicalAddress).toBe(world.translate(kva)?.pa);
  });

  it('without the symbols, or with others, has no KVAs', () => {
    const none = openKvm(file, { architectures, resolver: () => undefined });
    expect(none.core.whyPhysicalOnly?.code).toBe('NO_SYMBOL');
    expect(caught(() => none.resolve(kva), 'UNSUPPORTED').message).toContain('KPML4phys');
    const i386 = i386KernelWorld({ release: 'classic', pae: false });
    const arm = armKernelWorld({ format: 'v4', place: 'physaddr' });
    for (const [some, missing] of [
      [i386, ['IdlePTD']],
      [arm, ['kernel_l1pa']],
      [arm, ['physaddr']],
    ] as const) {
      const resolver = (name: string): bigint | undefined =>
        (missing as readonly string[]).includes(name) ? undefined : some.symbols[name];
      const kvm = openFull(some, { kernel: undefined!, resolver });
      expect([kvm.core.whyPhysicalOnly?.code, kvm.core.whyPhysicalOnly?.field]).toEqual([
        'NO_SYMBOL',
        missing[0],
      ]);
    }
    const damaged = world.kernel.slice();
    damaged.fill(0xff, damaged.length - 512, damaged.length); // the section headers
    const broken = openKvm(file, { architectures, kernel: damaged });
    expect(caught(() => broken.resolve(kva), 'UNSUPPORTED').cause).toBeDefined();
  });

  it('is not read through variables that are somewhere else', () => {
    // Another build of the kernel: its variables lie among other bytes, or where another table's address is.
    const variable = /^(KPML4phys|Idle|kernel_l1pa)/;
    for (const some of [
      amd64KernelWorld({ kernphys: 0x7aa00000 }),
      i386KernelWorld({ release: '13', pae: true }),
      i386KernelWorld({ release: 'classic', pae: false }),
      armKernelWorld({ format: 'v6-afe' }),
    ]) {
      const { symbols, ram, pages, translate } = some;
      for (const name of Object.keys(symbols).filter((one) => variable.test(one))) {
        // At one of these places there is the PA of a page that is there, but is no table.
        ram.writeU64(translate(symbols[name] + 0x5000n)!.pa, BigInt(ram.ranges[1].start));
      }
      for (const shift of [4n, 8n, 0x40n, 0x5000n, 0x7000000n, -0x400000n]) {
        const resolver = (name: string): bigint | undefined =>
          variable.test(name) && name in symbols ? symbols[name] + shift : symbols[name];
        const kvm = openFull(some, { kernel: undefined!, resolver });
        expect(['MISMATCH', 'NOT_DUMPED']).toContain(kvm.core.whyPhysicalOnly?.code);
        caught(() => kvm.resolve(pages[0]), 'UNSUPPORTED');
      }
    }
  });

  it('is not read through a copy of the variable', () => {
    const some = amd64KernelWorld({ kernphys: 0x7aa00000 });
    const root = some.registers.CR3;
    const variable = some.translate(some.symbols.KPML4phys)!.pa;
    expect(some.ram.readU64(variable)).toBe(root);
    // Where it would be, were the image 2 MB below 4 GB.
    some.ram.writeU64(0x100000000 + (variable % 0x200000), root);
    expect(openFull(some).core.notes?.kernphys).toBe('0x7aa00000');
    some.ram.writeU64(variable, 0n);
    expect(openFull(some).core.whyPhysicalOnly?.code).toBe('MISMATCH');
  });

  it('of arm is found by the one of two places that is right', () => {
    const arm = armKernelWorld({ format: 'v6-afe' });
    const right = { physaddr: BigInt(arm.delta!.paddr), delta: arm.delta! };
    for (const [physaddr, delta] of [
      [0x8000_0000n, right.delta],
      [right.physaddr, { ...right.delta, paddr: 0x8000_0000 }],
    ] as const) {
      const resolver = (name: string): bigint | undefined =>
        name === 'physaddr' ? physaddr : arm.symbols[name];
      const kvm = openKvm(arm.fullDump({ delta }).file.bytes(), { architectures, resolver });
      expect(kvm.resolve(arm.pages[0]).physicalAddress).toBe(arm.translate(arm.pages[0])?.pa);
    }
  });

  it('of i386 is found where the symbols tell the wrong place of two', () => {
    for (const [release, hide] of [
      ['13', /kernload|tramp_idleptd/],
      ['12', /kernload|tramp_idleptd/],
    ] as const) {
      const some = i386KernelWorld({ release, pae: true });
      const resolver = (name: string): bigint | undefined =>
        hide.test(name) ? undefined : some.symbols[name];
      const kvm = openFull(some, { kernel: undefined!, resolver });
      expect(kvm.resolve(some.pages[5]).physicalAddress).toBe(some.translate(some.pages[5])?.pa);
    }
  });

  it('with the kernel of another machine is refused', () => {
    for (const other of [i386KernelWorld({ release: '13', pae: true }), armKernelWorld({ format: 'v4' })]) {
      caught(() => openKvm(file, { architectures, kernel: other.kernel }), 'MISMATCH');
    }
  });
});

describe('hostile', () => {
  const worlds = [
    amd64KernelWorld({ kernphys: 0x1c00000, delta: 'kernload', la57: true }),
    i386KernelWorld({ release: '13', pae: false }),
    armKernelWorld({ format: 'v6-afe', littleEndian: false }),
  ];
  const files = worlds.map((world) => world.fullDump().file.bytes());
  const index = fc.nat({ max: worlds.length - 1 });

  /** Opens, looks up, and takes KvmErrors for answers; gives what was found to be mapped where. */
  const tried = (bytes: Uint8Array, world: KernelWorld, options: Options): number => {
    let wrong = 0;
    try {
      const kvm = openKvm(bytes, { architectures, ...options });
      for (let i = 0; i < world.pages.length; i += 97) {
        const resolved = answer(() => kvm.resolve(world.pages[i]));
        if (resolved && resolved.physicalAddress !== world.translate(world.pages[i])?.pa) wrong++;
      }
      answer(() => kvm.messageBuffer());
      for (const _row of kvm.pages({ from: world.pages[0], to: world.pages[0] + 0x100000n })) continue;
    } catch (error) {
      if (!isKvmError(error)) throw error;
    }
    return wrong;
  };
  const answer = <T>(ask: () => T): T | undefined => {
    try {
      return ask();
    } catch (error) {
      if (!isKvmError(error)) throw error;
      return undefined;
    }
  };

  const addresses = fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    fc.bigInt({ min: 0n, max: 0x7fffffn }).map((offset) => 0xffffffff80000000n + offset),
    fc.bigInt({ min: 0n, max: 0x7fffffn }).map((offset) => 0xc0000000n + offset),
    fc.constantFrom(0n, 1n << 63n, 0x800000n),
  );
  const names = [
    'KPML4phys',
    'KPML5phys',
    'la57',
    'kernbase',
    'kernload',
    'tramp_idleptd',
    'pae_mode',
    'IdlePDPT',
  ];
  const all = [...names, 'IdlePTD', 'IdlePTD_nopae', 'kernel_l1pa', 'physaddr', 'pmap_kern_ttb', 'msgbufp'];
  const lies = fc.dictionary(fc.constantFrom(...all), fc.option(addresses, { nil: undefined }), {
    minKeys: 1,
  });

  test.prop([index, lies], runs(40))(
    'symbols may point anywhere: nothing is read from elsewhere',
    (i, lie) => {
      const world = worlds[i];
      const resolver = (name: string): bigint | undefined =>
        Object.hasOwn(lie, name) ? lie[name] : world.symbols[name];
      expect(tried(files[i], world, { resolver })).toBe(0);
    },
  );

  const edits = fc.array(fc.tuple(fc.nat({ max: 1200 }), fc.nat({ max: 255 })), {
    minLength: 1,
    maxLength: 6,
  });
  test.prop([index, edits, fc.double({ min: 0, max: 1, noNaN: true })], runs(40))(
    'headers may be damaged and the file cut',
    (i, changes, left) => {
      const bytes = files[i].slice(0, left < 0.5 ? undefined : Math.floor(files[i].length * left));
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      tried(bytes, worlds[i], { kernel: worlds[i].kernel });
    },
  );
});
