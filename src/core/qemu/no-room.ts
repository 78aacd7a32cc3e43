/** QEMU's words for a file that cannot grow: its file system is full, or its owner's quota is. */
const NO_ROOM = /no space left|disk quota exceeded/i;

export function isNoRoom(qemuText: string): boolean {
  return NO_ROOM.test(qemuText);
}
