/** The result of a bench: how long something took, or what it used, in each round, by this service and by its peers. */
export interface Figure {
  /** The work that is measured, such as `GetInfo` or `a copy of 64 MiB`. The figures of a comparison have the same text. */
  readonly what: string;
  /** The program that did it: this service, or a peer such as `virsh` or `bare QMP`. */
  readonly by: string;
  /** The unit of the values, such as `ms` or `MiB`. If it has the words `a second`, more is better; otherwise less. */
  readonly unit: string;
  /** One value for each round, in the order of the rounds. Values with the same index are of the same round. */
  readonly values: readonly number[];
}
