import com.blockjob.v1.AbortRequest;
import com.blockjob.v1.AbortResponse;
import com.blockjob.v1.BlockJobServiceGrpc;
import com.blockjob.v1.JobEvent;
import com.blockjob.v1.JobRef;
import com.blockjob.v1.StartCopyRequest;
import com.blockjob.v1.StartCopyResponse;
import com.blockjob.v1.WatchJobRequest;
import com.blockjob.v1.WatchJobResponse;
import io.grpc.Channel;
import java.util.Iterator;

/** Writes what a client writes; prints a request's bytes, in hexadecimal. */
public final class Use {
    static boolean follow(Channel channel, StartCopyRequest request) {
        BlockJobServiceGrpc.BlockJobServiceBlockingStub jobs = BlockJobServiceGrpc.newBlockingStub(channel);
        StartCopyResponse started = jobs.startCopy(request);
        if (started.getResultCase() != StartCopyResponse.ResultCase.JOB) return false;
        JobRef job = JobRef.newBuilder().setJobId(started.getJob().getId()).build();
        WatchJobRequest watch = WatchJobRequest.newBuilder().setJob(job).setAfterRevision(0).build();
        for (Iterator<WatchJobResponse> events = jobs.watchJob(watch); events.hasNext(); ) {
            if (events.next().getEvent().getKind() == JobEvent.Kind.KIND_STATE) break;
        }
        AbortResponse aborted = jobs.abort(abort(started.getJob().getId()));
        return aborted.getJob().hasEndTime();
    }

    static AbortRequest abort(String id) {
        return AbortRequest.newBuilder()
                .setJob(JobRef.newBuilder().setJobId(id))
                .setPivot(true)
                .setReturnImmediately(true)
                .build();
    }

    public static void main(String[] args) {
        for (byte one : abort(args[0]).toByteArray()) System.out.printf("%02x", one);
    }
}
