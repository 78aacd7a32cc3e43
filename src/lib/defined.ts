/** The members that are there: for types that tell one that is undefined from one that is not there. */
export function defined<T extends object>(members: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  const there = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(there) as ReturnType<typeof defined<T>>;
}
