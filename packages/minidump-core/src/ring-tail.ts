import type { SectionPlan } from './dump-sections.js';
import type { MachineFacts, MessageRing } from './dump-source.js';
import type { Losses } from './losses.js';
import { ringSection } from './plan-sections.js';

/** MSG_MAGIC of sys/sys/msgbuf.h. */
const MSG_MAGIC = 0x063062;
const PAGE = 4096;
/** struct msgbuf as 13 and 14 have it: msg_ptr, then five u32 that matter here; padding and a lock follow. */
const TAIL_BYTES = { 32: 56, 64: 72 };

/**
 * The message buffer in memory order and, within the page that its end lies in, the struct msgbuf that says where it
 * starts: a kernel keeps the two together, and dumps both (sys/kern/kern_msgbuf.c, sys/kern/kern_dump.c). Made up only
 * where the start is known and not 0; `msg_ptr` in it is 0.
 */
export function ringTailSection(
  { bits, byteOrder }: MachineFacts,
  messageBuffer: MessageRing | undefined,
  losses: Losses,
): SectionPlan {
  const ring = ringSection(messageBuffer?.ring);
  if (messageBuffer === undefined || messageBuffer.start === 0) return ring;
  const { length } = ring;
  const room = (PAGE - (length % PAGE)) % PAGE;
  // The structure is aligned as the machine's pointers are.
  const gap = (bits / 8 - (length % (bits / 8))) % (bits / 8);
  if (room < gap + TAIL_BYTES[bits]) {
    losses.add('note', 'where the message buffer starts: no room for it behind the buffer');
    return ring;
  }
  const tail = new Uint8Array(gap + TAIL_BYTES[bits]);
  const view = new DataView(tail.buffer);
  [MSG_MAGIC, length, messageBuffer.start, messageBuffer.start].forEach((word, i) =>
    view.setUint32(gap + bits / 8 + 4 * i, word, byteOrder === 'little'),
  );
  return {
    name: ring.name,
    length: length + tail.length,
    *produce() {
      yield* ring.produce();
      yield tail;
    },
  };
}
