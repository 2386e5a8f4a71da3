import { struct } from '@libkvm/minidump-core';

/**
 * The on-disk structures of ELF (System V gABI, chapters 4 and 5; FreeBSD sys/sys/elf32.h and elf64.h), one table each.
 * The two classes have the same fields in other widths and, for program headers and symbols, in another order.
 */

/** The first 16 bytes of every ELF file, by which the rest is read (gABI figure 4-4). */
export const elfIdent = struct('Elf_Ident', {
  magic: { at: 0, kind: 'u32', doc: '7f 45 4c 46; 0x464c457f read as little-endian' },
  class: { at: 4, kind: 'u8', doc: 'EI_CLASS: 1 = 32-bit, 2 = 64-bit' },
  data: { at: 5, kind: 'u8', doc: 'EI_DATA: 1 = little-endian, 2 = big-endian' },
  version: { at: 6, kind: 'u8', doc: 'EI_VERSION: 1' },
  osabi: { at: 7, kind: 'u8', doc: 'EI_OSABI: 0 none, 9 FreeBSD, 255 standalone (FreeBSD full dumps)' },
});

export const ehdr32 = struct('Elf32_Ehdr', {
  type: { at: 16, kind: 'u16', doc: 'e_type' },
  machine: { at: 18, kind: 'u16', doc: 'e_machine' },
  version: { at: 20, kind: 'u32', doc: 'e_version: 1; FreeBSD full dumps leave 0' },
  entry: { at: 24, kind: 'u32', doc: 'e_entry: virtual address' },
  phoff: { at: 28, kind: 'u32', doc: 'e_phoff: offset of the program headers' },
  shoff: { at: 32, kind: 'u32', doc: 'e_shoff: offset of the section headers' },
  flags: { at: 36, kind: 'u32', doc: 'e_flags' },
  ehsize: { at: 40, kind: 'u16', doc: 'e_ehsize: not used; QEMU 7.2 has 8 here' },
  phentsize: { at: 42, kind: 'u16', doc: 'e_phentsize: bytes of a program header' },
  phnum: { at: 44, kind: 'u16', doc: 'e_phnum; 0xffff: the number is in sh_info of section 0' },
  shentsize: { at: 46, kind: 'u16', doc: 'e_shentsize: bytes of a section header' },
  shnum: { at: 48, kind: 'u16', doc: 'e_shnum; 0: the number is in sh_size of section 0' },
  shstrndx: { at: 50, kind: 'u16', doc: 'e_shstrndx; 0xffff: the index is in sh_link of section 0' },
});

export const ehdr64 = struct('Elf64_Ehdr', {
  type: { at: 16, kind: 'u16', doc: 'e_type' },
  machine: { at: 18, kind: 'u16', doc: 'e_machine' },
  version: { at: 20, kind: 'u32', doc: 'e_version: 1; FreeBSD full dumps leave 0' },
  entry: { at: 24, kind: 'u64', doc: 'e_entry: virtual address' },
  phoff: { at: 32, kind: 'u64', doc: 'e_phoff: offset of the program headers' },
  shoff: { at: 40, kind: 'u64', doc: 'e_shoff: offset of the section headers' },
  flags: { at: 48, kind: 'u32', doc: 'e_flags' },
  ehsize: { at: 52, kind: 'u16', doc: 'e_ehsize: not used; QEMU 7.2 has 8 here' },
  phentsize: { at: 54, kind: 'u16', doc: 'e_phentsize: bytes of a program header' },
  phnum: { at: 56, kind: 'u16', doc: 'e_phnum; 0xffff: the number is in sh_info of section 0' },
  shentsize: { at: 58, kind: 'u16', doc: 'e_shentsize: bytes of a section header' },
  shnum: { at: 60, kind: 'u16', doc: 'e_shnum; 0: the number is in sh_size of section 0' },
  shstrndx: { at: 62, kind: 'u16', doc: 'e_shstrndx; 0xffff: the index is in sh_link of section 0' },
});

export const phdr32 = struct('Elf32_Phdr', {
  type: { at: 0, kind: 'u32', doc: 'p_type' },
  offset: { at: 4, kind: 'u32', doc: 'p_offset: offset in the file' },
  vaddr: { at: 8, kind: 'u32', doc: 'p_vaddr: virtual address' },
  paddr: { at: 12, kind: 'u32', doc: 'p_paddr: physical address' },
  filesz: { at: 16, kind: 'u32', doc: 'p_filesz: bytes in the file' },
  memsz: { at: 20, kind: 'u32', doc: 'p_memsz: bytes in memory' },
  flags: { at: 24, kind: 'u32', doc: 'p_flags: 4 read, 2 write, 1 execute' },
  align: { at: 28, kind: 'u32', doc: 'p_align: bytes' },
});

export const phdr64 = struct('Elf64_Phdr', {
  type: { at: 0, kind: 'u32', doc: 'p_type' },
  flags: { at: 4, kind: 'u32', doc: 'p_flags: 4 read, 2 write, 1 execute' },
  offset: { at: 8, kind: 'u64', doc: 'p_offset: offset in the file' },
  vaddr: { at: 16, kind: 'u64', doc: 'p_vaddr: virtual address' },
  paddr: { at: 24, kind: 'u64', doc: 'p_paddr: physical address' },
  filesz: { at: 32, kind: 'u64', doc: 'p_filesz: bytes in the file' },
  memsz: { at: 40, kind: 'u64', doc: 'p_memsz: bytes in memory' },
  align: { at: 48, kind: 'u64', doc: 'p_align: bytes' },
});

export const shdr32 = struct('Elf32_Shdr', {
  name: { at: 0, kind: 'u32', doc: 'sh_name: offset in the section name table' },
  type: { at: 4, kind: 'u32', doc: 'sh_type' },
  flags: { at: 8, kind: 'u32', doc: 'sh_flags' },
  addr: { at: 12, kind: 'u32', doc: 'sh_addr: virtual address' },
  offset: { at: 16, kind: 'u32', doc: 'sh_offset: offset in the file' },
  size: { at: 20, kind: 'u32', doc: 'sh_size: bytes' },
  link: { at: 24, kind: 'u32', doc: 'sh_link: of a symbol table: the section of its names' },
  info: { at: 28, kind: 'u32', doc: 'sh_info: of a symbol table: index of the first non-local symbol' },
  addralign: { at: 32, kind: 'u32', doc: 'sh_addralign: bytes' },
  entsize: { at: 36, kind: 'u32', doc: 'sh_entsize: bytes of an entry' },
});

export const shdr64 = struct('Elf64_Shdr', {
  name: { at: 0, kind: 'u32', doc: 'sh_name: offset in the section name table' },
  type: { at: 4, kind: 'u32', doc: 'sh_type' },
  flags: { at: 8, kind: 'u64', doc: 'sh_flags' },
  addr: { at: 16, kind: 'u64', doc: 'sh_addr: virtual address' },
  offset: { at: 24, kind: 'u64', doc: 'sh_offset: offset in the file' },
  size: { at: 32, kind: 'u64', doc: 'sh_size: bytes' },
  link: { at: 40, kind: 'u32', doc: 'sh_link: of a symbol table: the section of its names' },
  info: { at: 44, kind: 'u32', doc: 'sh_info: of a symbol table: index of the first non-local symbol' },
  addralign: { at: 48, kind: 'u64', doc: 'sh_addralign: bytes' },
  entsize: { at: 56, kind: 'u64', doc: 'sh_entsize: bytes of an entry' },
});

export const sym32 = struct('Elf32_Sym', {
  name: { at: 0, kind: 'u32', doc: 'st_name: offset in the string table' },
  value: { at: 4, kind: 'u32', doc: 'st_value: virtual address' },
  size: { at: 8, kind: 'u32', doc: 'st_size: bytes, 0 when not known' },
  info: { at: 12, kind: 'u8', doc: 'st_info: binding << 4 | type' },
  other: { at: 13, kind: 'u8', doc: 'st_other: visibility' },
  shndx: { at: 14, kind: 'u16', doc: 'st_shndx: section; 0 = undefined, 0xfff1 = absolute' },
});

export const sym64 = struct('Elf64_Sym', {
  name: { at: 0, kind: 'u32', doc: 'st_name: offset in the string table' },
  info: { at: 4, kind: 'u8', doc: 'st_info: binding << 4 | type' },
  other: { at: 5, kind: 'u8', doc: 'st_other: visibility' },
  shndx: { at: 6, kind: 'u16', doc: 'st_shndx: section; 0 = undefined, 0xfff1 = absolute' },
  value: { at: 8, kind: 'u64', doc: 'st_value: virtual address' },
  size: { at: 16, kind: 'u64', doc: 'st_size: bytes, 0 when not known' },
});

/** The head of a note; name and descriptor follow, each padded (gABI figure 5-7). The same in both classes. */
export const nhdr = struct('Elf_Nhdr', {
  namesz: { at: 0, kind: 'u32', doc: 'n_namesz: bytes of the name with its NUL' },
  descsz: { at: 4, kind: 'u32', doc: 'n_descsz: bytes of the descriptor' },
  type: { at: 8, kind: 'u32', doc: 'n_type' },
});

/** e_type (gABI figure 4-3). */
export const ET_REL = 1;
export const ET_EXEC = 2;
export const ET_DYN = 3;
export const ET_CORE = 4;

/** e_phnum where the number of program headers does not fit: it is in sh_info of section 0 (gABI chapter 4). */
export const PN_XNUM = 0xffff;

/** p_type (gABI figure 5-2). */
export const PT_LOAD = 1;
export const PT_NOTE = 4;
/** Where the kernel image of a FreeBSD full dump was loaded (sys/sys/elf_common.h). */
export const PT_DUMP_DELTA = 0x6fb5_d000;

/** sh_type (gABI figure 4-11). */
export const SHT_PROGBITS = 1;
export const SHT_SYMTAB = 2;
export const SHT_STRTAB = 3;
/** The hash table of .dynsym (gABI figure 5-12). */
export const SHT_HASH = 5;
export const SHT_NOTE = 7;
export const SHT_NOBITS = 8;
export const SHT_DYNSYM = 11;
/** GNU's hash table of .dynsym, and the versions of its symbols (sys/sys/elf_common.h). */
export const SHT_GNU_HASH = 0x6fff_fff6;
export const SHT_GNU_VERSYM = 0x6fff_ffff;
/** sh_flags: the section takes memory when the program runs. */
export const SHF_WRITE = 1;
export const SHF_ALLOC = 2;
