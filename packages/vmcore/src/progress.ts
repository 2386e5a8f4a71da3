import { Presets, SingleBar } from 'cli-progress';
import type { Session } from './session.js';

/** Work that takes less shows no bar. */
const PATIENCE_MS = 1000;

/**
 * A bar on standard error for work that takes over a second: only where that is a terminal, and where answers on the
 * same terminal do not already show that something happens.
 */
export class Progress {
  private readonly started = performance.now();
  private readonly wanted: boolean;
  private bar: SingleBar | undefined;

  constructor(
    private readonly session: Session,
    private readonly what: string,
    private readonly total: number,
  ) {
    this.wanted = session.err.terminal && !session.out.terminal && total > 0;
  }

  /** Says how much of the total is done. Cheap, but not free: call it for every chunk of work, not for every item. */
  update(done: number): void {
    if (!this.wanted) return;
    if (this.bar === undefined && performance.now() - this.started < PATIENCE_MS) return;
    this.bar ??= this.start();
    this.bar.update(Math.min(done, this.total));
  }

  /** Removes the bar. */
  stop(): void {
    this.bar?.stop();
    this.bar = undefined;
  }

  private start(): SingleBar {
    const bar = new SingleBar(
      {
        format: `${this.what} {bar} {percentage}% | {eta_formatted} left`,
        stream: this.session.io.stderr,
        clearOnComplete: true,
        hideCursor: null,
        etaBuffer: 50,
      },
      Presets.shades_classic,
    );
    bar.start(this.total, 0);
    return bar;
  }
}
