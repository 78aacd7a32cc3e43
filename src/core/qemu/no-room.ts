/** QEMU's words for a file that cannot grow: its file system is full, its owner's quota is, or it is as long as may be. */
const NO_ROOM = /no space left|disk quota exceeded|file too large/i;

export function isNoRoom(qemuText: string): boolean {
  return NO_ROOM.test(qemuText);
}
