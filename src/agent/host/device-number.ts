/** The number of a device, major and minor in one. */

/** As /sys names it, MAJOR:MINOR. */
export function deviceName(rdev: number): string {
  return `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
}

/** As the kernel packs it for user space (include/linux/kdev_t.h, new_encode_dev). */
export function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12);
}
