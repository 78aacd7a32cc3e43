// Movedisks moves disks of running VMs to other files, all at once, and watches all of the copies by one stream.
//
//	movedisks ADDRESS BYTES_PER_SECOND DOMAIN DISK DESTINATION [DOMAIN DISK DESTINATION ...]
//
// It prints each entry of the journals as a line of JSON, once and in order, whatever happens to the service meanwhile.
// The speed limit is for each disk; 0: none. build.sh makes the stubs and builds it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"

	blockjob "blockjob/v1"
)

// errDone leaves a watch, which has no end of its own.
var errDone = errors.New("all jobs have ended")

// entry is what is printed of an entry of a journal.
type entry struct {
	Job      string `json:"job"`
	Revision int64  `json:"revision"`
	Kind     string `json:"kind"`
	State    string `json:"state"`
}

// mover moves the disks of one batch.
type mover struct {
	jobs      blockjob.BlockJobServiceClient
	labels    map[string]string
	bandwidth int64
	moves     [][]string
	// The ids of the jobs, once they are started.
	unfinished map[string]bool
	// Each job as its last event had it.
	known map[string]*blockjob.Job
	ready map[string]bool
}

// watch gives the messages of a watch of the batch's jobs until one is answered by an error. It loses none.
func (m *mover) watch(each func(*blockjob.WatchJobsResponse) error) error {
	token := ""
	for {
		err := m.watchOnce(&token, each)
		if !isAway(err) {
			return err
		}
		fmt.Fprintln(os.Stderr, "the service is away; coming back with the token of the last message")
		time.Sleep(pause)
	}
}

// watchOnce watches until the stream breaks; token is always right to come back with.
func (m *mover) watchOnce(token *string, each func(*blockjob.WatchJobsResponse) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := m.jobs.WatchJobs(ctx, &blockjob.WatchJobsRequest{LabelFilter: m.labels, ResumeToken: *token})
	if err != nil {
		return err
	}
	for {
		message, err := heard(stream.Recv, cancel)
		if err != nil {
			return err
		}
		if err := each(message); err != nil {
			return err
		}
		if message.ResumeToken != "" { // in a large fleet not each message has one
			*token = message.ResumeToken
		}
	}
}

func (m *mover) start(domain, disk, destination string) error {
	requestID, err := newRequestID()
	if err != nil {
		return err
	}
	request := &blockjob.StartCopyRequest{
		Disk:                    &blockjob.DiskRef{Domain: domain, Disk: disk},
		Destination:             &blockjob.Destination{Target: &blockjob.Destination_File{File: destination}},
		BandwidthBytesPerSecond: m.bandwidth,
		Labels:                  m.labels,
		RequestId:               requestID,
	}
	return untilItAnswers(func() error {
		started, err := m.jobs.StartCopy(context.Background(), request)
		if err == nil {
			m.unfinished[started.GetJob().Id] = true
		}
		return err
	})
}

// pivot is answered at once, so that the other jobs need not wait: the watch tells how it ends.
func (m *mover) pivot(job *blockjob.Job) error {
	requestID, err := newRequestID()
	if err != nil {
		return err
	}
	request := &blockjob.AbortRequest{
		Job:               &blockjob.JobRef{Name: &blockjob.JobRef_JobId{JobId: job.Id}},
		Pivot:             true,
		ReturnImmediately: true,
		RequestId:         requestID,
	}
	return untilItAnswers(func() error {
		_, err := m.jobs.Abort(context.Background(), request)
		return err
	})
}

func (m *mover) take(message *blockjob.WatchJobsResponse) error {
	switch about := message.About.(type) {
	case *blockjob.WatchJobsResponse_Complete:
		if m.unfinished != nil {
			return nil
		}
		// Only now: the watch has begun, so it has the first entry of each job, too.
		m.unfinished = map[string]bool{}
		for _, move := range m.moves {
			if err := m.start(move[0], move[1], move[2]); err != nil {
				return err
			}
		}
	case *blockjob.WatchJobsResponse_Snapshot:
		for id, job := range m.known {
			if job.Host == about.Snapshot.Host {
				delete(m.known, id)
			}
		}
	case *blockjob.WatchJobsResponse_Unreachable:
		fmt.Fprintf(os.Stderr, "host %s does not answer; its jobs go on\n", about.Unreachable.Host)
	case *blockjob.WatchJobsResponse_Event:
		return m.takeEvent(about.Event)
	}
	return nil
}

func (m *mover) takeEvent(event *blockjob.JobEvent) error {
	job := event.Job
	if event.Kind == blockjob.JobEvent_KIND_PROGRESS {
		fmt.Fprintf(os.Stderr, "%s: %.1f %%\n", job.Id, job.Progress.GetPercent())
		return nil
	}
	if known, ok := m.known[job.Id]; ok && event.Revision <= known.Revision {
		fmt.Fprintf(os.Stderr, "%s: revision %d again\n", job.Id, event.Revision)
		return nil
	}
	m.known[job.Id] = job
	line := entry{job.Id, event.Revision, event.Kind.String(), job.State.String()}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return err
	}
	if job.State == blockjob.Job_STATE_READY && !m.ready[job.Id] {
		// From READY on each write of the guest goes to both sides, and the VM may be moved at any moment.
		m.ready[job.Id] = true
		return m.pivot(job)
	}
	if job.EndTime != nil {
		delete(m.unfinished, job.Id)
		fmt.Fprintf(os.Stderr, "%s: the guest writes to %s\n", job.Id, orElse(job.Outcome.GetGuestWritesTo(), "an unknown image"))
		if len(m.unfinished) == 0 {
			return errDone
		}
	}
	return nil
}

func run(args []string) error {
	if len(args) < 5 || len(args)%3 != 2 {
		return errors.New("usage: movedisks ADDRESS BYTES_PER_SECOND DOMAIN DISK DESTINATION [DOMAIN DISK DESTINATION ...]")
	}
	bandwidth, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	// Beyond one machine: grpc.WithTransportCredentials, with certificates.
	connection, err := grpc.Dial(args[0], grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer connection.Close()
	batch, err := newRequestID()
	if err != nil {
		return err
	}
	m := &mover{
		jobs:      blockjob.NewBlockJobServiceClient(connection),
		labels:    map[string]string{"batch": batch},
		bandwidth: bandwidth,
		known:     map[string]*blockjob.Job{},
		ready:     map[string]bool{},
	}
	for at := 2; at < len(args); at += 3 {
		m.moves = append(m.moves, args[at:at+3])
	}
	if err := m.watch(m.take); err != errDone {
		explain(err)
		return errors.New("jobs that were started go on")
	}
	for _, job := range m.known {
		if job.State != blockjob.Job_STATE_COMPLETED {
			return fmt.Errorf("%s has not moved its disk", job.Id)
		}
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
