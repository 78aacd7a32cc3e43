// Copydisk copies a disk of a running VM, watches the copy, also if the service restarts, and moves the VM to the copy.
//
//	copydisk ADDRESS DOMAIN DISK DESTINATION [BYTES_PER_SECOND]
//
// ADDRESS is HOST:PORT. build.sh makes the stubs and builds it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"

	blockjob "blockjob/v1"
)

// watch calls each with every entry of the job's journal, once and in order, and with progress in between, until the
// job has ended.
func watch(jobs blockjob.BlockJobServiceClient, job *blockjob.JobRef, each func(*blockjob.JobEvent) error) error {
	revision := int64(0)
	for {
		err := watchOnce(jobs, job, &revision, each)
		if err == nil || !isAway(err) {
			return err
		}
		fmt.Printf("the service is away; coming back after revision %d\n", revision)
		time.Sleep(pause)
	}
}

// watchOnce watches until the job has ended (nil) or the stream is broken. The next watch can resume after revision.
func watchOnce(
	jobs blockjob.BlockJobServiceClient,
	job *blockjob.JobRef,
	revision *int64,
	each func(*blockjob.JobEvent) error,
) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	after := *revision
	stream, err := jobs.WatchJob(ctx, &blockjob.WatchJobRequest{Job: job, AfterRevision: &after})
	if err != nil {
		return err
	}
	for {
		answer, err := heard(stream.Recv, cancel)
		if errors.Is(err, io.EOF) {
			return nil // the server ends the stream after the event that ends the job
		}
		if err != nil {
			return err
		}
		*revision = answer.Event.Revision
		if err := each(answer.Event); err != nil {
			return err
		}
	}
}

// tellOutcome prints what is on disk. The state alone does not say it: a copy may be complete although the job was
// cancelled.
func tellOutcome(job *blockjob.Job) {
	outcome := job.Outcome
	fmt.Printf("%s: the guest writes to %s\n", job.State, orElse(outcome.GuestWritesTo, "an unknown image"))
	fmt.Printf("the destination is %s\n", outcome.DestinationContent)
	fmt.Printf("start the VM next time with %s\n", orElse(outcome.NextStartPath, "what its configuration says"))
	for _, file := range outcome.SafeToDelete {
		fmt.Printf("safe to delete: %s (%s)\n", file.Path, orElse(file.Warning, "at once"))
	}
}

func copyDisk(jobs blockjob.BlockJobServiceClient, domain, disk, destination string, bandwidth int64) (*blockjob.Job, error) {
	startID, err := newRequestID()
	if err != nil {
		return nil, err
	}
	pivotID, err := newRequestID()
	if err != nil {
		return nil, err
	}
	start := &blockjob.StartCopyRequest{
		Disk:                    &blockjob.DiskRef{Domain: domain, Disk: disk},
		Destination:             &blockjob.Destination{Target: &blockjob.Destination_File{File: destination}},
		BandwidthBytesPerSecond: bandwidth,
		RequestId:               startID,
	}
	var job *blockjob.Job
	err = untilItAnswers(func() error {
		started, err := jobs.StartCopy(context.Background(), start)
		job = started.GetJob()
		return err
	})
	if err != nil {
		return nil, err
	}
	fmt.Printf("copy %s has started\n", job.Id)

	ref := &blockjob.JobRef{Name: &blockjob.JobRef_JobId{JobId: job.Id}}
	pivot := &blockjob.AbortRequest{Job: ref, Pivot: true, RequestId: pivotID}
	asked := false
	err = watch(jobs, ref, func(event *blockjob.JobEvent) error {
		job = event.Job
		switch event.Kind {
		case blockjob.JobEvent_KIND_PROGRESS:
			fmt.Printf("%.1f %%\n", job.Progress.Percent)
		case blockjob.JobEvent_KIND_HEARTBEAT:
		default:
			fmt.Printf("revision %d: %s: %s\n", event.Revision, job.State, event.Detail)
		}
		if job.State != blockjob.Job_STATE_READY || asked {
			return nil
		}
		// From READY on each write of the guest goes to both sides, and the VM may be moved at any moment.
		asked = true
		return untilItAnswers(func() error {
			_, err := jobs.Abort(context.Background(), pivot)
			return err
		})
	})
	return job, err
}

func run(args []string) error {
	if len(args) < 4 {
		return errors.New("usage: copydisk ADDRESS DOMAIN DISK DESTINATION [BYTES_PER_SECOND]")
	}
	bandwidth := int64(0)
	if len(args) > 4 {
		var err error
		if bandwidth, err = strconv.ParseInt(args[4], 10, 64); err != nil {
			return err
		}
	}
	// Beyond one machine: grpc.WithTransportCredentials, with certificates.
	connection, err := grpc.Dial(args[0], grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer connection.Close()
	job, err := copyDisk(blockjob.NewBlockJobServiceClient(connection), args[1], args[2], args[3], bandwidth)
	if err != nil {
		explain(err)
		switch {
		case job != nil:
			return fmt.Errorf("see what became of %s", job.Id)
		case isRefusal(err):
			return errors.New("nothing was changed by that call")
		default:
			return errors.New("it may have been done all the same: ask for the list of jobs")
		}
	}
	tellOutcome(job)
	if job.State != blockjob.Job_STATE_COMPLETED {
		return errors.New("the VM has not been moved")
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
