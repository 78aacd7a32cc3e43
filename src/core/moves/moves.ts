/** The words of core/next-move: what it is told, and what it can say. */
import type { HeaderOnDisk, NodeOfImage } from '../job/handover.ts';
import type { DeviceOn, EntryBody, Flushed } from '../job/journal-entry.ts';
import type { QmpCommand } from '../qemu/commands.ts';
import type { QemuJobStatus } from '../qemu/replies.ts';

/** What QEMU says of one job, asked at one moment. */
export type Seen =
  /** It cannot be asked, and nothing proves that it has ended: not seen is not gone. */
  | { readonly qemu: 'SILENT' }
  /** It is proved that the process which ran the job has ended. */
  | { readonly qemu: 'ENDED'; readonly header?: HeaderOnDisk }
  | {
      readonly qemu: 'UP';
      /** When it was asked, RFC 3339: what it says was so then, or became so since. */
      readonly at: string;
      readonly job: SeenJob | undefined;
      readonly deviceOn: DeviceOn;
      readonly devicePath: string | undefined;
      /** Of a job that does not run any more and was flushed; undefined: it was not read. */
      readonly header?: HeaderOnDisk;
      /** The guest is running, or may wake up and run at any moment (query-status). */
      readonly guestRuns: boolean;
      /** It is on its way to another QEMU, or there. */
      readonly guestMigrates: boolean;
    };

/** The job, as QEMU lists it. */
export interface SeenJob {
  readonly status: QemuJobStatus;
  readonly error: string | undefined;
  readonly ioStatus: 'ok' | 'failed' | 'nospace';
  readonly paused: boolean;
  readonly speedBytesPerSecond: number;
  /** What is left to copy, and what has been: each write of the guest adds to both. */
  readonly remainingBytes: number;
  readonly copiedBytes: number;
  /** It knows how much there is to copy: the checks that QEMU makes after its answer are behind it. */
  readonly begun: boolean;
}

/** What is asked of QEMU once, and then waited for. */
export type Asking = 'complete' | 'end' | 'forceEnd' | 'pause' | 'resume' | 'speed' | 'bitmaps' | 'yank' | 'finalize';

/** For how long things have been as they are, and what else the moment is like. */
export type Circumstance =
  /** The state has lasted too long: a start that does not get going, a pivot that finds no moment without dirt. */
  | 'overdue'
  /** The job's own time limit is over. */
  | 'timeIsUp'
  /** A pause that no error explains has lasted: while QEMU drains its disks a job looks the same for a moment. */
  | 'pauseLasts'
  /** The guest has been paused for longer than anybody should wait for a disk. */
  | 'heldTooLong'
  /** The guest is held, or QEMU is silent, for so long that it waits for storage that hangs; and the guest is not on the copy. */
  | 'waitsFarTooLong'
  /** QEMU was asked to end the copy, has nothing left to copy, and does not end it: the guest's disk waits meanwhile. */
  | 'endsTooLong'
  /** What is under way to the destination will soon be written, as far as can be seen: `stop` waits for it. */
  | 'stopsSoon'
  /** It was held, and has to get on with its work before it may be paused again. */
  | 'restsFromHold'
  /** Somebody wants the end by force, or not to wait for the clean-up, and QEMU has been silent since for long enough. */
  | 'givenUp'
  /** Its connection was broken, since the guest waited for one, and nobody knew for which: nothing comes over it any more. */
  | 'connectionBroken'
  /** This host was refused a moment ago to move the guest: its domain may be another's. */
  | 'fenced'
  /** Seen right before the guest was to be moved: the destination's file is no longer at its name. */
  | 'destinationMoved';

/** What was already done about the job over this connection, and for how long it has been as it is. */
export type Asked = ReadonlySet<Asking | Circumstance>;

/** What QEMU has refused for longer than a race explains, in its words. */
export type QemuRefusals = Readonly<Partial<Record<Asking, string>>>;

export type Move =
  | { readonly move: 'wait' }
  | { readonly move: 'record'; readonly entry: EntryBody }
  | { readonly move: 'undo-start' }
  | { readonly move: 'hold-guest'; readonly because: string }
  | { readonly move: 'release-guest' }
  /** The active image's bitmaps are to be on the destination when the guest is. */
  | { readonly move: 'carry-bitmaps' }
  /** Each of the images is put on stable storage, in this order, and errors are heard. What came of it is written down. */
  | { readonly move: 'flush'; readonly what: Flushed; readonly images: readonly NodeOfImage[] }
  /** `proves` is true, and to be written down, as soon as QEMU has said yes. */
  | { readonly move: 'command'; readonly command: QmpCommand; readonly asks: Asking; readonly proves?: EntryBody }
  | { readonly move: 'settle' }
  /** As settle, but what is to be done in QEMU is left as it is, and so nothing is deleted. */
  | { readonly move: 'leave' };

/** Of a job that is to pivot: it goes on to where its guest will be on the destination. */
export function isForPivot(move: Move): boolean {
  return move.move === 'hold-guest' || (move.move === 'command' && move.asks === 'complete');
}
