// Timing by turns: whatever slows the machine down for a while slows all contenders alike.

/**
 * Milliseconds of processor time that this process has taken, user and system: other work on the machine does not count.
 * Nothing that is measured with it waits for anything. Windows counts in steps of 16 ms, too coarse here.
 */
function processorTime() {
  if (process.platform === 'win32') return performance.now();
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/**
 * Runs contenders A B C A B C ... and gives the median milliseconds of one run of each, by name.
 *
 * @param contenders functions by name
 */
export function measure(contenders, { rounds = 15, warmups = 4 } = {}) {
  const names = Object.keys(contenders);
  const times = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = -warmups; round < rounds; round++) {
    for (const name of names) {
      const start = processorTime();
      contenders[name]();
      const took = processorTime() - start;
      if (round >= 0) times[name].push(took);
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(times[name])]));
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/**
 * One line of the result.
 *
 * @param row.limit what `ratio` (or, without a floor, `value`) is to stay at or under
 * @param row.c the figure of a C reader (libkvm's code, built for another system) for the same on another machine of two
 *   cores: to be compared by order of magnitude only
 */
export function figure({ name, unit, value, floor, floorIs, limit, ambition, c }) {
  const ratio = floor === undefined ? undefined : value / floor;
  const verdict = limit === undefined ? '' : (ratio ?? value) <= limit ? 'ok' : 'miss';
  return { name, unit, value, floor, floorIs, ratio, limit, ambition, c, verdict };
}
