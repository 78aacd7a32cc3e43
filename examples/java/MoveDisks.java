import com.blockjob.v1.AbortRequest;
import com.blockjob.v1.BlockJobServiceGrpc;
import com.blockjob.v1.BlockJobServiceGrpc.BlockJobServiceBlockingStub;
import com.blockjob.v1.Destination;
import com.blockjob.v1.DiskRef;
import com.blockjob.v1.Job;
import com.blockjob.v1.JobEvent;
import com.blockjob.v1.JobRef;
import com.blockjob.v1.StartCopyRequest;
import com.blockjob.v1.WatchJobsRequest;
import com.blockjob.v1.WatchJobsResponse;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Moves disks of running VMs to other files, all at once, and watches all of the copies by one stream.
 *
 * <pre>movedisks.jar ADDRESS BYTES_PER_SECOND DOMAIN DISK DESTINATION [DOMAIN DISK DESTINATION ...]</pre>
 *
 * Prints each entry of the journals as a line of JSON, once and in order, whatever happens to the service meanwhile. The
 * speed limit is for each disk; 0: none. build.sh makes the stubs and builds it.
 */
public final class MoveDisks {
    /**
     * A watch sends a message at least every 15 seconds, if only a heartbeat. After a longer silence the connection is
     * broken.
     */
    private static final int SILENCE_SECONDS = 45;

    /** The pause between two attempts to reach the service. */
    private static final int PAUSE_SECONDS = 1;

    private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
    private final BlockJobServiceBlockingStub jobs;
    private final Map<String, String> labels = Map.of("batch", newId());
    private final long bandwidth;
    private final String[][] moves;

    /** The ids of the jobs, once they are started. */
    private Set<String> unfinished;

    /** Each job as its last event had it. */
    private final Map<String, Job> known = new HashMap<>();

    private final Set<String> ready = new HashSet<>();

    private MoveDisks(BlockJobServiceBlockingStub jobs, long bandwidth, String[][] moves) {
        this.jobs = jobs;
        this.bandwidth = bandwidth;
        this.moves = moves;
    }

    /** Watches until all jobs have ended. Loses no message, whatever happens to the service. */
    private boolean run() throws InterruptedException {
        String token = "";
        try {
            while (true) {
                Context.CancellableContext call = Context.current().withCancellation();
                try {
                    Iterator<WatchJobsResponse> messages = open(call, token);
                    while (isHeard(messages, call)) {
                        WatchJobsResponse message = messages.next();
                        take(message);
                        if (unfinished != null && unfinished.isEmpty()) return haveAllMoved();
                        // In a large fleet not each message has one.
                        if (!message.getResumeToken().isEmpty()) token = message.getResumeToken();
                    }
                } catch (StatusRuntimeException error) {
                    if (!isAway(error)) throw error;
                } finally {
                    call.cancel(null);
                }
                say("the service is away; coming back with the token of the last message");
                TimeUnit.SECONDS.sleep(PAUSE_SECONDS);
            }
        } finally {
            clock.shutdown();
        }
    }

    private Iterator<WatchJobsResponse> open(Context call, String token) {
        WatchJobsRequest request =
                WatchJobsRequest.newBuilder().putAllLabelFilter(labels).setResumeToken(token).build();
        Context outer = call.attach();
        try {
            return jobs.watchJobs(request);
        } finally {
            call.detach(outer);
        }
    }

    /** Waits for the next message; a watch that is silent for too long is cancelled. */
    private boolean isHeard(Iterator<WatchJobsResponse> messages, Context.CancellableContext call) {
        Future<?> watchdog = clock.schedule(() -> call.cancel(null), SILENCE_SECONDS, TimeUnit.SECONDS);
        try {
            return messages.hasNext();
        } finally {
            watchdog.cancel(false);
        }
    }

    private void take(WatchJobsResponse message) throws InterruptedException {
        switch (message.getAboutCase()) {
            case COMPLETE:
                if (unfinished != null) return;
                // Only now: the watch has begun, so it has the first entry of each job, too.
                unfinished = new HashSet<>();
                for (String[] move : moves) unfinished.add(start(move[0], move[1], move[2]));
                return;
            case SNAPSHOT:
                known.values().removeIf(job -> job.getHost().equals(message.getSnapshot().getHost()));
                return;
            case UNREACHABLE:
                say("host %s does not answer; its jobs go on", message.getUnreachable().getHost());
                return;
            case EVENT:
                take(message.getEvent());
                return;
            default:
        }
    }

    private void take(JobEvent event) throws InterruptedException {
        Job job = event.getJob();
        String id = job.getId();
        if (event.getKind() == JobEvent.Kind.KIND_PROGRESS) {
            say("%s: %.1f %%", id, job.getProgress().getPercent());
            return;
        }
        Job before = known.get(id);
        if (before != null && event.getRevision() <= before.getRevision()) {
            say("%s: revision %d again", id, event.getRevision());
            return;
        }
        known.put(id, job);
        System.out.printf(
                "{\"job\": \"%s\", \"revision\": %d, \"kind\": \"%s\", \"state\": \"%s\"}%n",
                id, event.getRevision(), event.getKind(), job.getState());
        if (job.getState() == Job.State.STATE_READY && ready.add(id)) {
            // From READY on each write of the guest goes to both sides, and the VM may be moved at any moment.
            pivot(id);
        } else if (job.hasEndTime()) {
            unfinished.remove(id);
            String path = job.getOutcome().getGuestWritesTo();
            say("%s: the guest writes to %s", id, path.isEmpty() ? "an unknown image" : path);
        }
    }

    /** Returns the id of the job. */
    private String start(String domain, String disk, String destination) throws InterruptedException {
        StartCopyRequest request = StartCopyRequest.newBuilder()
                .setDisk(DiskRef.newBuilder().setDomain(domain).setDisk(disk))
                .setDestination(Destination.newBuilder().setFile(destination))
                .setBandwidthBytesPerSecond(bandwidth)
                .putAllLabels(labels)
                .setRequestId(newId())
                .build();
        return untilItAnswers(() -> jobs.startCopy(request)).getJob().getId();
    }

    /** Is answered at once, so that the other jobs need not wait: the watch tells how it ends. */
    private void pivot(String id) throws InterruptedException {
        AbortRequest request = AbortRequest.newBuilder()
                .setJob(JobRef.newBuilder().setJobId(id))
                .setPivot(true)
                .setReturnImmediately(true)
                .setRequestId(newId())
                .build();
        untilItAnswers(() -> jobs.abort(request));
    }

    /**
     * Repeats a call while the service is away. This is safe for writes, because each has a request_id: a repeated
     * request with the same id is done once, and gets the same answer.
     */
    private static <T> T untilItAnswers(Supplier<T> call) throws InterruptedException {
        while (true) {
            try {
                return call.get();
            } catch (StatusRuntimeException error) {
                if (!isAway(error)) throw error;
                say("not now: %s", error.getStatus().getDescription());
                TimeUnit.SECONDS.sleep(PAUSE_SECONDS);
            }
        }
    }

    /**
     * Whether the service is restarting or cannot be reached. That is not a refusal, and the jobs continue in QEMU.
     * CANCELLED is the code of a silent watch that our own watchdog has cancelled.
     */
    private static boolean isAway(StatusRuntimeException error) {
        return switch (error.getStatus().getCode()) {
            case UNAVAILABLE, CANCELLED -> true;
            default -> false;
        };
    }

    private boolean haveAllMoved() {
        return known.values().stream().allMatch(job -> job.getState() == Job.State.STATE_COMPLETED);
    }

    /** Prints the text of a refusal, for people, and its reason (from a google.rpc.ErrorInfo), for programs. */
    private static void explain(StatusRuntimeException error) throws InvalidProtocolBufferException {
        say("refused: %s", error.getStatus().getDescription());
        Status status = StatusProto.fromThrowable(error);
        if (status == null) return;
        for (Any detail : status.getDetailsList()) {
            if (!detail.is(ErrorInfo.class)) continue;
            ErrorInfo info = detail.unpack(ErrorInfo.class);
            say("reason %s %s", info.getReason(), info.getMetadataMap());
        }
    }

    private static String newId() {
        return UUID.randomUUID().toString();
    }

    private static void say(String format, Object... values) {
        System.err.printf(format + "%n", values);
    }

    public static void main(String[] args) throws InterruptedException, InvalidProtocolBufferException {
        String[][] moves = new String[args.length / 3][];
        for (int at = 0; at < moves.length; at++) moves[at] = new String[] {args[3 * at + 2], args[3 * at + 3], args[3 * at + 4]};
        // Beyond one machine: without usePlaintext, and with certificates.
        ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
        int status = 1;
        try {
            MoveDisks mover = new MoveDisks(BlockJobServiceGrpc.newBlockingStub(channel), Long.parseLong(args[1]), moves);
            status = mover.run() ? 0 : 1;
        } catch (StatusRuntimeException error) {
            explain(error);
            say("jobs that were started go on");
        } finally {
            channel.shutdownNow();
        }
        System.exit(status);
    }
}
