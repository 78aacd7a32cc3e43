/**
 * The entries of a job's journal. One entry is one line of the journal and one revision: 1, 2, 3 … without gaps. An
 * entry is on disk before anything follows from it.
 */
import type { Destination, Encryption } from '../destination.ts';
import type { Loss } from '../disk/judge.ts';
import type { Failure } from '../errors.ts';
import type { ImageFormat, JobKind, JobOptions, PauseGuest } from '../job-options.ts';
import type { EndVerdict } from './convergence.ts';
import type { Handover, HeaderOnDisk } from './handover.ts';
import type { Labelled } from './labels.ts';
import type { Outcome } from './outcome.ts';
import type { ChosenGranularity, ModeTold, PolicyStep } from './policy-step.ts';
import type { QemuMonitor, QemuProcess } from './qemu-identity.ts';
import type { SpaceEstimate, SpaceTold } from './space-told.ts';
import type { CommittedFile, KnownFile, MadeFile, Plan } from './step.ts';
import type { ThrottleTold } from './throttle-told.ts';
import type { UsedFile } from './used-file.ts';

export type ReusedBy =
  /** The destination had no data of its own, and its backing file is that very image. */
  | 'SAME_FILE'
  /** Both were read completely and compared before the copy began. */
  | 'COMPARED'
  /** Only the caller says so. */
  | 'WORD';

export interface Reused {
  readonly by: ReusedBy;
  /** The destination. */
  readonly path: string;
  /** The image whose contents it must have: the one below the active image. */
  readonly backing: string;
}

export type PauseReason = 'USER' | 'NO_SPACE' | 'IO_ERROR';

/** The first entry: the job exists once it is on disk. */
export interface Accepted extends Labelled {
  readonly entry: 'accepted';
  /** The version of this format. */
  readonly version: 2;
  readonly job: string;
  readonly kind: JobKind;
  readonly host: string;
  readonly domain: string;
  readonly domainUuid: string | undefined;
  readonly process: QemuProcess | undefined;
  /** Undefined if it does not show one, or in older journals. */
  readonly monitor?: QemuMonitor;
  /** The disk's qdev id, and the name of its device in query-block. */
  readonly disk: string;
  readonly qdev: string;
  readonly source: { readonly node: string; readonly path: string; readonly format: string };
  /** The source's file or device. Undefined if it is not on this host, not proved to be QEMU's, or in older journals. */
  readonly sourceFile?: KnownFile;
  /** The image to which a pivot moves the guest: a copy's destination, or an active commit's base. Undefined if none. */
  readonly destination: AcceptedDestination | undefined;
  /** The backing image after a pull; undefined if there is none, or this is not a pull. */
  readonly baseNode?: string;
  /** For a pull, or a commit of lower images. Also undefined in journals that an older service has begun. */
  readonly handover?: Handover;
  /** Nodes that nothing uses after the job, each before those it uses. */
  readonly unused: { readonly afterSuccess: readonly string[]; readonly otherwise: readonly string[] };
  /** The images whose data a commit moves down, if they are local files. */
  readonly committed: readonly CommittedFile[];
  /** Why the guest has to be paused for the moment of a pivot; undefined if it need not be. */
  readonly pauseGuestBecause: string | undefined;
  /** QEMU has no yank: if this destination hangs, nothing ends the `stop` that waits for it. */
  readonly holdsWithoutBound?: true;
  /** Changes that the VM's manager has to make to a destination before the next start of the VM, in words. */
  readonly toSet?: readonly string[];
  /** For a shallow copy into an existing destination. Undefined if it takes nothing over, or in older journals. */
  readonly reused?: Reused;
  /** The accepted losses. Undefined if there are none. */
  readonly losses?: readonly Loss[];
  /** For a copy. Undefined if it is not known, or in older journals. */
  readonly space?: SpaceEstimate;
  /** Undefined if the caller has chosen it, or QEMU does. */
  readonly granularity?: ChosenGranularity;
  /** The files for which older jobs no longer decide. Undefined in older journals. */
  readonly uses?: readonly UsedFile[];
  /**
   * The files besides the destination by whose names the disk is opened next, if they are proved to be QEMU's: all
   * images that stay in its chain. They must be at these names at the end. Undefined in older journals, which have only
   * the first ones.
   */
  readonly named?: readonly KnownFile[];
  readonly options: JobOptions;
  readonly plan: Plan;
  /** The job was found in QEMU and its journal is lost: facts that only the journal had are not known. */
  readonly recovered?: true;
}

export interface AcceptedDestination {
  readonly node: string;
  /** The absolute path without symbolic links, or the NBD URI. */
  readonly path: string;
  readonly format: ImageFormat;
  /** Undefined if it is not encrypted. */
  readonly encryption?: Encryption;
  /** Undefined for the base of an active commit. */
  readonly target: Destination | undefined;
  /** The base's file if it is proved to be QEMU's. A copy's file is known once QEMU has opened it. */
  readonly file?: KnownFile;
}

/** DATA: before the header that drops the old images was written. HEADER: with that header. */
export type Flushed = 'DATA' | 'HEADER';

/** The image of the guest's device when the job had concluded. */
export type DeviceOn = 'SOURCE' | 'DESTINATION' | 'ELSEWHERE' | 'NOWHERE';

/** How the end of QEMU's job was seen. */
export interface Concluded {
  readonly entry: 'concluded';
  /**
   * CONCLUDED: QEMU had the result. VANISHED: another client dismissed the job. QEMU_ENDED: the process is gone.
   * GIVEN_UP: QEMU could not be asked, and a caller did not want to wait any longer.
   */
  readonly how: 'CONCLUDED' | 'VANISHED' | 'QEMU_ENDED' | 'GIVEN_UP';
  readonly qemuError: string | undefined;
  readonly deviceOn: DeviceOn;
  /** The path of the image of the guest's device, as QEMU reports it. */
  readonly devicePath: string | undefined;
  /** The header that drops the old images, read back from disk. Undefined if it was not read. */
  readonly header?: HeaderOnDisk;
}

export type EntryBody =
  | Accepted
  | { readonly entry: 'step-started'; readonly step: string }
  | { readonly entry: 'step-done'; readonly step: string; readonly made?: MadeFile; readonly proved?: KnownFile }
  /** QEMU or the file system refused: nothing changed. */
  | { readonly entry: 'step-refused'; readonly step: string; readonly failure: Failure }
  /** There was no answer: it may have happened. */
  | { readonly entry: 'step-unknown'; readonly step: string; readonly failure: Failure }
  /** With the reason of the failed start, which QEMU no longer knows after the undo. */
  | { readonly entry: 'undo-started'; readonly step: string; readonly failure: Failure }
  | { readonly entry: 'undo-done'; readonly step: string }
  /** It could not be undone; it stays as a leftover. */
  | { readonly entry: 'undo-failed'; readonly step: string; readonly failure: Failure }
  /** The start failed and was undone. */
  | { readonly entry: 'refused'; readonly failure: Failure }
  | { readonly entry: 'running' }
  /** `seenAt`: when QEMU was asked. */
  | { readonly entry: 'ready'; readonly seenAt: string }
  | { readonly entry: 'paused'; readonly reason: PauseReason }
  | { readonly entry: 'resumed' }
  | SpaceTold
  /** Requested, and not yet done: a service that reads this asks QEMU (again). */
  | { readonly entry: 'pause-requested' }
  | { readonly entry: 'resume-requested' }
  | { readonly entry: 'speed-requested'; readonly bandwidthBytesPerSecond: number }
  | PolicyStep
  | ModeTold
  /** QEMU refuses it: the request is withdrawn. */
  | { readonly entry: 'change-refused'; readonly change: 'SPEED' | 'PAUSE' | 'WRITE_MODE'; readonly failure: Failure }
  /** A request with a request_id that was already fulfilled or in progress: it is remembered, and changes nothing. */
  | { readonly entry: 'asked-again' }
  /** The limit in QEMU, no matter which client set it. */
  | { readonly entry: 'speed'; readonly bandwidthBytesPerSecond: number }
  /** READY, and the owner of the VM's configuration has to record the new path before a pivot. */
  | { readonly entry: 'gate-opened'; readonly token: string }
  /** The owner has recorded it. From now on the pivot is allowed. */
  | { readonly entry: 'config-recorded'; readonly token: string }
  /** `token`: the record that came with the request. */
  | { readonly entry: 'pivot-requested'; readonly pauseGuest: PauseGuest; readonly token?: string }
  | {
      readonly entry: 'cancel-requested';
      readonly force: boolean;
      /** For the end of a copy in write mode BLOCKING. */
      readonly pauseGuest?: PauseGuest;
      /** The service itself cancelled the job, because its time limit had expired. */
      readonly timeIsUp?: true;
      /** The service itself, because it had broken the connection to a destination that hangs while the guest waited. */
      readonly connectionBroken?: true;
      /** The service itself, because the destination's file is no longer at its name. */
      readonly destinationMoved?: true;
    }
  /** The job is over, its QEMU is silent, and a caller does not want to wait until its nodes there are closed. */
  | { readonly entry: 'give-up-requested' }
  /** on_ready FINISH: end the job as a cancel after READY does, with a complete copy. */
  | { readonly entry: 'finish-requested' }
  /** Written before QEMU is asked to end a READY copy: at that moment the copy still followed the guest. */
  | { readonly entry: 'followed'; readonly seenAt: string }
  /** Whether the job will end, where that is not what was expected, or was written before. */
  | ({ readonly entry: 'verdict' } & EndVerdict)
  | ThrottleTold
  /** Written before `stop`: a service that finds the guest stopped by us resumes it. */
  | { readonly entry: 'guest-held'; readonly because: string }
  | { readonly entry: 'guest-released' }
  /** All data of these images is on stable storage: QEMU was asked, and reported no error. */
  | { readonly entry: 'flushed'; readonly what: Flushed }
  /** It is not, or that is not known. */
  | { readonly entry: 'flush-failed'; readonly failure: Failure }
  | Concluded
  | {
      readonly entry: 'ended';
      readonly state: 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED';
      readonly failure: Failure | undefined;
      readonly outcome: Outcome;
    };

/** The request that led to an entry: its request_id, and a digest that tells it from another request with the same id. */
export interface RequestMark {
  readonly id: string;
  readonly digest: string;
  /** The caller of the request; '' if callers have no names. Undefined if an older version wrote it. */
  readonly caller?: string;
}

export type JournalEntry = EntryBody & {
  readonly revision: number;
  /** Absent for a request without request_id. */
  readonly request?: RequestMark;
  /** On the host's clock, for people: RFC 3339, UTC, milliseconds. */
  readonly time: string;
  /** Its place among all entries of the state folder, each of which has another one. Undefined in older journals. */
  readonly position?: number;
  /** In the entries that start a count: the first, READY, and the last one, for example. Undefined in older journals. */
  readonly clock?: ClockStamp;
  /** Written to disk at once with the entry before it. */
  readonly joined?: true;
};

/** An entry of a kind. */
export type EntryOf<Kind extends EntryBody['entry']> = Extract<JournalEntry, { readonly entry: Kind }>;

/** The time on a clock that nobody can set: src/agent/host/host-clock.ts. */
export interface ClockStamp {
  /** The later of two entries in one state folder has the higher number. */
  readonly ms: number;
  /** For how long the host had been up. */
  readonly upMs: number;
  /** Where that counts: another boot, or another time namespace, begins again. */
  readonly counts: string;
}
