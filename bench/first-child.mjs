// `node first-child.mjs CORE`: the first calls in a process, as JSON.
const times = {};
let mark = performance.now();
const lap = (name) => {
  const now = performance.now();
  times[name] = now - mark;
  mark = performance.now();
};

const { openKvmFile } = await import('../packages/kvm-reader/dist/node.js');
lap('load');
const kvm = openKvmFile(process.argv[2]);
lap('open');
kvm.readU64(kvm.core.kernbase + 0x1000000n);
lap('read');
times.rows = 0;
for (const row of kvm.pages()) if (row.length > 0) times.rows++;
lap('walk');
console.log(JSON.stringify(times));
