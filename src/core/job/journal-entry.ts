/**
 * What is written down of a job, and nothing else. One entry is one line of the job's journal and one revision:
 * 1, 2, 3 … without gaps. An entry is on disk before anything follows from it.
 */
import type { Destination, Encryption } from '../destination.ts';
import type { Loss } from '../disk/judge.ts';
import type { Failure } from '../errors.ts';
import type { ImageFormat, JobKind, JobOptions, PauseGuest } from '../job-options.ts';
import type { Handover, HeaderOnDisk } from './handover.ts';
import type { Outcome } from './outcome.ts';
import type { KnownFile, MadeFile, Plan } from './step.ts';
import type { UsedFile } from './used-file.ts';

export type ReusedBy =
  /** The destination held nothing of its own, and is over that very image. */
  | 'SAME_FILE'
  /** All of both was read before the copy began. */
  | 'COMPARED'
  /** On the caller's word alone. */
  | 'WORD';

export interface Reused {
  readonly by: ReusedBy;
  /** The destination. */
  readonly path: string;
  /** What it has to show: the image below the active one. */
  readonly backing: string;
}

export type PauseReason = 'USER' | 'NO_SPACE' | 'IO_ERROR';

/**
 * Which QEMU it was: a name may be given to another process, a pid and its start time never are, for as long as the host
 * runs and in the namespace in which they were seen.
 */
export interface QemuProcess {
  readonly pid: number;
  /** Clock ticks since boot, /proc/PID/stat field 22. */
  readonly startTime: string;
  /** The host's boot; undefined where /proc does not tell, and in journals of before it was written down. */
  readonly bootId?: string;
  /** In which the pid is one, as `pid:[4026531836]`; undefined as above. */
  readonly pidNamespace?: string;
}

export interface CommittedFile extends KnownFile {
  /** As in SafeFile. */
  readonly sharedStorage?: string;
}

/** The first entry: with it on disk the job exists. */
export interface Accepted {
  readonly entry: 'accepted';
  /** The version of this format. */
  readonly version: 2;
  readonly job: string;
  readonly kind: JobKind;
  readonly host: string;
  readonly domain: string;
  readonly domainUuid: string | undefined;
  readonly process: QemuProcess | undefined;
  /** The disk's qdev id, and how query-block names its device. */
  readonly disk: string;
  readonly qdev: string;
  readonly source: { readonly node: string; readonly path: string; readonly format: string };
  /** The source's file or device. Undefined: none of this host, not proved to be the one that QEMU has, or an older journal. */
  readonly sourceFile?: KnownFile;
  /** Where a pivot puts the guest: a copy's destination, or an active commit's base. Undefined: there is no pivot. */
  readonly destination: AcceptedDestination | undefined;
  /** What is below the active image after a pull; undefined: nothing, or this is no pull. */
  readonly baseNode?: string;
  /** Of a pull, or of a commit of lower images. Undefined also in journals that an older service has begun. */
  readonly handover?: Handover;
  /** Nodes that nobody uses when the job is over, each before those it uses. */
  readonly unused: { readonly afterSuccess: readonly string[]; readonly otherwise: readonly string[] };
  /** The images whose data a commit moves down, as far as they are local files. */
  readonly committed: readonly CommittedFile[];
  /** The guest is to be paused for the instant of a pivot, and why; undefined: need not be. */
  readonly pauseGuestBecause: string | undefined;
  /** QEMU has no yank: should this destination hang, nothing ends the `stop` that waits for it. */
  readonly holdsWithoutBound?: true;
  /** What a destination lacks for the VM's next start, or needs then, and the VM's manager has to give, in words. */
  readonly toSet?: readonly string[];
  /** Of a shallow copy into what was there. Undefined: nothing is taken over from there, or an older journal. */
  readonly reused?: Reused;
  /** What is lost, as was accepted. Undefined: nothing. */
  readonly losses?: readonly Loss[];
  /** What older jobs say of these files is over. Undefined in older journals. */
  readonly uses?: readonly UsedFile[];
  /**
   * Files by whose names the disk is opened next, beside the destination, as far as they are proved to be QEMU's: all images that
   * stay in its chain. They have to be at these names in the end. Undefined in older journals; those have the first ones only.
   */
  readonly named?: readonly KnownFile[];
  readonly options: JobOptions;
  readonly plan: Plan;
  /** The journal was lost, and the job found in QEMU: what only the journal knew is not known. */
  readonly recovered?: true;
}

export interface AcceptedDestination {
  readonly node: string;
  /** The absolute path without symbolic links, or the NBD URI. */
  readonly path: string;
  readonly format: ImageFormat;
  /** Undefined: it is not encrypted. */
  readonly encryption?: Encryption;
  /** Undefined for the base of an active commit. */
  readonly target: Destination | undefined;
  /** The base's, where it is proved to be the one that QEMU has. A copy's is known when QEMU has opened it. */
  readonly file?: KnownFile;
}

/** DATA: before the header that lets go of the old images was written. HEADER: that one, too. */
export type Flushed = 'DATA' | 'HEADER';

/** Where the guest's device was when the job had concluded. */
export type DeviceOn = 'SOURCE' | 'DESTINATION' | 'ELSEWHERE' | 'NOWHERE';

/** How QEMU's job was seen to end. */
export interface Concluded {
  readonly entry: 'concluded';
  /**
   * CONCLUDED: QEMU had the result. VANISHED: somebody dismissed it. QEMU_ENDED: the process is gone. GIVEN_UP: QEMU
   * could not be asked, and somebody did not want to wait any longer.
   */
  readonly how: 'CONCLUDED' | 'VANISHED' | 'QEMU_ENDED' | 'GIVEN_UP';
  readonly qemuError: string | undefined;
  readonly deviceOn: DeviceOn;
  /** The path of the image that the guest's device is on, as QEMU named it. */
  readonly devicePath: string | undefined;
  /** What the header that lets go of the old images says, read back from disk. Undefined: it was not read. */
  readonly header?: HeaderOnDisk;
}

export type EntryBody =
  | Accepted
  | { readonly entry: 'step-started'; readonly step: string }
  | { readonly entry: 'step-done'; readonly step: string; readonly made?: MadeFile; readonly proved?: KnownFile }
  /** QEMU or the file system said no: nothing changed. */
  | { readonly entry: 'step-refused'; readonly step: string; readonly failure: Failure }
  /** No answer: it may have happened. */
  | { readonly entry: 'step-unknown'; readonly step: string; readonly failure: Failure }
  /** With why the start failed: what QEMU says of it is gone when it has been taken back. */
  | { readonly entry: 'undo-started'; readonly step: string; readonly failure: Failure }
  | { readonly entry: 'undo-done'; readonly step: string }
  /** Could not be taken back; it is left over, and said so. */
  | { readonly entry: 'undo-failed'; readonly step: string; readonly failure: Failure }
  /** The start came to nothing and was taken back. */
  | { readonly entry: 'refused'; readonly failure: Failure }
  | { readonly entry: 'running' }
  /** `seenAt`: when QEMU was asked, and said so. */
  | { readonly entry: 'ready'; readonly seenAt: string }
  | { readonly entry: 'paused'; readonly reason: PauseReason }
  | { readonly entry: 'resumed' }
  /** Asked for, and not yet done: whoever reads this asks QEMU (again). */
  | { readonly entry: 'pause-requested' }
  | { readonly entry: 'resume-requested' }
  | { readonly entry: 'speed-requested'; readonly bandwidthBytesPerSecond: number }
  /** QEMU does not take it: it is wanted no longer. */
  | { readonly entry: 'change-refused'; readonly change: 'SPEED' | 'PAUSE'; readonly failure: Failure }
  /** A request with a request_id asked for what was so already, or under way: it is remembered, and changes nothing. */
  | { readonly entry: 'asked-again' }
  /** The limit as QEMU has it, whoever set it. */
  | { readonly entry: 'speed'; readonly bandwidthBytesPerSecond: number }
  | { readonly entry: 'pivot-requested'; readonly pauseGuest: PauseGuest }
  | {
      readonly entry: 'cancel-requested';
      readonly force: boolean;
      /** For the end of a copy in write mode BLOCKING. */
      readonly pauseGuest?: PauseGuest;
      /** The service itself asked, as the job's time was over. */
      readonly timeIsUp?: true;
      /** So it did, as it had broken the connection to the destination: the guest waited for storage that hangs. */
      readonly connectionBroken?: true;
      /** The service itself asked: the destination's file is no longer at its name. */
      readonly destinationMoved?: true;
    }
  /** The job is over, its QEMU is silent, and somebody does not want to wait until what is left there is closed. */
  | { readonly entry: 'give-up-requested' }
  /** on_ready FINISH: end as a cancel after READY does, with a complete copy, because that was asked for. */
  | { readonly entry: 'finish-requested' }
  /** Written before QEMU is asked to end a READY copy: at that moment the copy followed the guest still. */
  | { readonly entry: 'followed'; readonly seenAt: string }
  /** Written before `stop`: whoever finds a guest stopped by us continues it. */
  | { readonly entry: 'guest-held'; readonly because: string }
  | { readonly entry: 'guest-released' }
  /** All that QEMU had for these images is on stable storage: it was asked, and no error was heard. */
  | { readonly entry: 'flushed'; readonly what: Flushed }
  /** It is not, or nobody can say. */
  | { readonly entry: 'flush-failed'; readonly failure: Failure }
  | Concluded
  | {
      readonly entry: 'ended';
      readonly state: 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED';
      readonly failure: Failure | undefined;
      readonly outcome: Outcome;
    };

/** Which request has led to an entry: its request_id, and what tells it from another request of the same id. */
export interface RequestMark {
  readonly id: string;
  readonly digest: string;
  /** Whose id it is; '' where callers have no names. Undefined: written by a version that did not tell them apart. */
  readonly caller?: string;
}

export type JournalEntry = EntryBody & {
  readonly revision: number;
  /** Of a request without request_id there is none. */
  readonly request?: RequestMark;
  /** By the host's clock, for people: RFC 3339, UTC, milliseconds. */
  readonly time: string;
  /** Of the first entry, of READY, and of the last one. Undefined in older journals. */
  readonly clock?: ClockStamp;
};

/** An entry of a kind. */
export type EntryOf<Kind extends EntryBody['entry']> = Extract<JournalEntry, { readonly entry: Kind }>;

/** When that was by a clock that nobody can set: src/agent/host/host-clock.ts. */
export interface ClockStamp {
  /** Of two entries in one state folder the later one has more. */
  readonly ms: number;
  /** For how long the host had been up. */
  readonly upMs: number;
  /** Where that counts: another boot, or another time namespace, begins anew. */
  readonly counts: string;
}
