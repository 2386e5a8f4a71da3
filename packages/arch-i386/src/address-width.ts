import type { AddressHole } from '@libkvm/minidump-core';

/** Pages of a 32-bit address space. */
export const END_PAGE = 2 ** 20;
/** No i386 has a KVA from 2^32 on. */
export const ABOVE_4_GB: AddressHole = { fromPage: END_PAGE, toPage: 2 ** 52 };
/** Physical addresses lie below 2^52 with PAE (Intel SDM volume 3, section 5.4), below 2^40 without (PSE-36). */
export const PHYSICAL_LIMIT = 2 ** 52;
