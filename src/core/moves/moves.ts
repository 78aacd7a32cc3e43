/** The types of core/next-move: its input, and the moves. */
import type { HeaderOnDisk, NodeOfImage } from '../job/handover.ts';
import type { DeviceOn, EntryBody, Flushed } from '../job/journal-entry.ts';
import type { LiftedBecause } from '../job/throttle-told.ts';
import type { QmpCommand } from '../qemu/commands.ts';
import type { QemuJobStatus } from '../qemu/replies.ts';

/** QEMU's state of one job at one moment. */
export type Seen =
  /** QEMU cannot be asked, and nothing proves that it has ended: a QEMU that is not seen may still run. */
  | { readonly qemu: 'SILENT' }
  /** The process that ran the job is proved to have ended. */
  | { readonly qemu: 'ENDED'; readonly header?: HeaderOnDisk }
  | {
      readonly qemu: 'UP';
      /** When QEMU was asked, RFC 3339: its answer was true then, or became true later. */
      readonly at: string;
      readonly job: SeenJob | undefined;
      readonly deviceOn: DeviceOn;
      readonly devicePath: string | undefined;
      /** For a flushed job that does not run any more; undefined if it was not read. */
      readonly header?: HeaderOnDisk;
      /** Whether the guest runs, or may wake up and run at any moment (query-status). */
      readonly guestRuns: boolean;
      /** Whether the guest is on its way to another QEMU, or there. */
      readonly guestMigrates: boolean;
    };

/** The job in QEMU's list. */
export interface SeenJob {
  readonly status: QemuJobStatus;
  readonly error: string | undefined;
  readonly ioStatus: 'ok' | 'failed' | 'nospace';
  readonly paused: boolean;
  readonly speedBytesPerSecond: number;
  /** Bytes left to copy, and bytes copied: each write of the guest adds to both. */
  readonly remainingBytes: number;
  readonly copiedBytes: number;
  /** Whether it knows how much there is to copy: then the checks that QEMU makes after its answer are done. */
  readonly begun: boolean;
}

/** The commands that QEMU is asked once, and that are then waited for. */
export type Asking =
  | 'complete'
  | 'end'
  | 'forceEnd'
  | 'pause'
  | 'resume'
  | 'speed'
  | 'mode'
  | 'bitmaps'
  | 'yank'
  | 'finalize';

/** The circumstances of a moment. */
export type Circumstance =
  /** The state lasts too long: a start does not get under way, or a pivot finds no moment without dirty data. */
  | 'overdue'
  /** The time limit of the job has expired. */
  | 'timeIsUp'
  /** It has expired for so long that a pause of the guest would have begun if it sufficed. */
  | 'timeIsLongUp'
  /** A pause without an error has lasted: a job looks the same for a moment while QEMU drains its disks. */
  | 'pauseLasts'
  /** The guest has been paused for longer than a disk may take to answer. */
  | 'heldTooLong'
  /** The guest is held, or QEMU is silent, for so long that storage must hang; and the guest is not on the copy. */
  | 'waitsFarTooLong'
  /** QEMU was asked to end the copy, and does not end it although nothing is left. The guest's disk waits meanwhile. */
  | 'endsTooLong'
  /** The data in flight to the destination will soon be written, as far as is known: `stop` waits for it. */
  | 'stopsSoon'
  /** The guest was held, and must run for a while before it may be paused again. */
  | 'restsFromHold'
  /** A caller wants the end by force, or without the clean-up, and QEMU has been silent since for long enough. */
  | 'givenUp'
  /** Its connection was broken because the guest waited for one of several: no more data goes over it. */
  | 'connectionBroken'
  /** This host was just refused the right to move the guest: another host may own its domain. */
  | 'fenced'
  /** Seen right before the guest was to move: the file of the destination is no longer at its name. */
  | 'destinationMoved'
  /** The guest has been slowed down for the longest time of the request; or the request is not known. */
  | 'throttleIsOver';

/** The commands that QEMU was asked about the job over this connection, and the circumstances. */
export type Asked = ReadonlySet<Asking | Circumstance>;

/** The commands that QEMU has refused for longer than a race explains, with its words. */
export type QemuRefusals = Readonly<Partial<Record<Asking, string>>>;

export type Move =
  | { readonly move: 'wait' }
  | { readonly move: 'record'; readonly entry: EntryBody }
  | { readonly move: 'undo-start' }
  /** Makes a token, and records the gate. */
  | { readonly move: 'open-gate' }
  | { readonly move: 'hold-guest'; readonly because: string }
  | { readonly move: 'release-guest' }
  /** The bitmaps of the active image must be on the destination before the guest is. */
  | { readonly move: 'carry-bitmaps' }
  /** Sets the limit on the guest's writes that is requested last, if no other client has set one. */
  | { readonly move: 'throttle' }
  /** Takes that limit away, or only its effect if QEMU still runs the job (`isGoing`). The result is recorded. */
  | { readonly move: 'lift-throttle'; readonly because: LiftedBecause; readonly isGoing: boolean }
  /** Puts each of the images on stable storage, in this order, and hears errors. The result is recorded. */
  | { readonly move: 'flush'; readonly what: Flushed; readonly images: readonly NodeOfImage[] }
  /** `proves` is true, and must be recorded, as soon as QEMU has accepted the command. */
  | { readonly move: 'command'; readonly command: QmpCommand; readonly asks: Asking; readonly proves?: EntryBody }
  | { readonly move: 'settle' }
  /** Like settle, but changes nothing in QEMU, and so deletes nothing. */
  | { readonly move: 'leave' };

/** Whether the move of a pivoting job leads on to the moment when its guest is on the destination. */
export function isForPivot(move: Move): boolean {
  return move.move === 'hold-guest' || (move.move === 'command' && move.asks === 'complete');
}
