/** QEMU's words for a file that cannot grow because its file system or its owner's quota is full. */
const NO_ROOM = /no space left|disk quota exceeded/i;

export function isNoRoom(qemuText: string): boolean {
  return NO_ROOM.test(qemuText);
}
