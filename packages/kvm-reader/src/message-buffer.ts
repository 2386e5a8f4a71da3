import { isKvmError, readBytes, struct, type ByteOrder, type Section } from '@libkvm/minidump-core';
import type { Kvm } from './kvm.js';

/** The message buffer of a kernel. */
export interface MessageBuffer {
  /** The messages, oldest first, without the NULs of unused space; decoded as UTF-8. */
  readonly text: string;
  /** The ring in memory order. */
  readonly ring: Uint8Array;
  /** Index in the ring of the oldest byte: where the kernel would write next. */
  readonly start: number;
  /**
   * Where the order comes from: `file`, the core says it; `msgbufp`, the kernel's own pointer; `struct`, a struct msgbuf
   * recognised behind the ring; `none`: unknown, the text starts where the ring does.
   */
  readonly order: 'file' | 'msgbufp' | 'struct' | 'none';
}

/** MSG_MAGIC of sys/sys/msgbuf.h. */
const MSG_MAGIC = 0x063062;

/** The start of struct msgbuf (sys/sys/msgbuf.h) behind its first member, the pointer msg_ptr. */
const msgbufTail = struct('msgbuf', {
  magic: { at: 0, kind: 'u32', doc: 'MSG_MAGIC' },
  size: { at: 4, kind: 'u32', doc: 'bytes of the ring' },
  wseq: { at: 8, kind: 'u32', doc: 'write sequence number; modulo size it is the write position' },
  rseq: { at: 12, kind: 'u32', doc: 'read sequence number' },
});

/** No kernel has a larger message buffer (kern.msgbufsize); more is damage. */
const MAX_RING = 64 * 1024 * 1024;

/** See `Kvm.messageBuffer`. */
export function readMessageBuffer(kvm: Kvm): MessageBuffer | undefined {
  return fromFile(kvm) ?? throughPointer(kvm) ?? fromSection(kvm);
}

/** By a file that knows where its ring starts. */
function fromFile(kvm: Kvm): MessageBuffer | undefined {
  const { messageBuffer, messageBufferStart } = kvm.core;
  if (messageBufferStart === undefined || !messageBuffer || messageBuffer.length === 0) return undefined;
  if (messageBuffer.length > MAX_RING || messageBufferStart >= messageBuffer.length) return undefined;
  return inOrder(readRing(kvm, messageBuffer), messageBufferStart, 'file');
}

/** By the kernel's variable msgbufp, in any core whose memory has the ring. */
function throughPointer(kvm: Kvm): MessageBuffer | undefined {
  const msgbufp = kvm.symbols.find('msgbufp');
  if (msgbufp === undefined) return undefined;
  const pointerSize = kvm.core.bits / 8;
  try {
    const at = kvm.readPointer(msgbufp);
    const tail = msgbufTail.read(kvm.read(at + BigInt(pointerSize), msgbufTail.size), 0, kvm.core.byteOrder);
    if (tail.magic !== MSG_MAGIC || tail.size === 0 || tail.size > MAX_RING) return undefined;
    const { messageBuffer } = kvm.core;
    // The section is the same ring, and there even when its pages are not.
    const ring =
      messageBuffer?.length === tail.size
        ? readRing(kvm, messageBuffer)
        : kvm.read(kvm.readPointer(at), tail.size);
    return inOrder(ring, tail.wseq % tail.size, 'msgbufp');
  } catch (error) {
    if (isKvmError(error) && !isKvmError(error, 'IO', 'ABORTED')) return undefined;
    throw error;
  }
}

/** By the section of a minidump: the kernel keeps struct msgbuf right behind the ring, within the same pages. */
function fromSection(kvm: Kvm): MessageBuffer | undefined {
  const { messageBuffer, cache, pageSize } = kvm.core;
  if (messageBuffer === undefined || messageBuffer.length === 0 || messageBuffer.length > MAX_RING)
    return undefined;
  const ring = readRing(kvm, messageBuffer);
  const rest = (pageSize - (messageBuffer.length % pageSize)) % pageSize;
  const behind = new Uint8Array(rest);
  const length = cache.readSync(messageBuffer.offset + messageBuffer.length, behind, 0, rest);
  const wseq = findWseq(behind.subarray(0, length), messageBuffer.length, kvm.core.byteOrder);
  if (wseq === undefined) return inOrder(ring, 0, 'none');
  return inOrder(ring, wseq % ring.length, 'struct');
}

/** The write sequence of a struct msgbuf for a ring of that size among some bytes. */
function findWseq(bytes: Uint8Array, size: number, order: ByteOrder): number | undefined {
  for (let at = 0; at + msgbufTail.size <= bytes.length; at += 4) {
    const tail = msgbufTail.read(bytes, at, order);
    if (tail.magic === MSG_MAGIC && tail.size === size) return tail.wseq;
  }
  return undefined;
}

function readRing(kvm: Kvm, section: Section): Uint8Array {
  return readBytes(kvm.core.cache, section.offset, section.length, 'msgbuf');
}

/** A full ring holds its oldest byte at the write position; in one that is not, NULs stand there (as in dmesg(8)). */
function inOrder(ring: Uint8Array, start: number, order: MessageBuffer['order']): MessageBuffer {
  const bytes = new Uint8Array(ring.length);
  bytes.set(ring.subarray(start));
  bytes.set(ring.subarray(0, start), ring.length - start);
  return { text: new TextDecoder().decode(bytes.filter((byte) => byte !== 0)), ring, start, order };
}
