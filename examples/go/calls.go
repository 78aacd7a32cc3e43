// The parts of a client that each call needs: it repeats the call while the service is away, and prints why a call was
// refused.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// A watch sends a message at least every 15 seconds, if only a heartbeat. After a longer silence the connection is
	// broken.
	silence = 45 * time.Second
	// The pause between two attempts to reach the service.
	pause = time.Second
)

// isAway reports whether the service is restarting or cannot be reached. That is not a refusal, and the job continues
// in QEMU. Canceled is the code of a silent watch that our own watchdog has cancelled.
func isAway(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled
}

// untilItAnswers repeats a call while the service is away. This is safe for writes, because each has a request_id: a
// repeated request with the same id is done once, and gets the same answer.
func untilItAnswers(call func() error) error {
	for {
		err := call()
		if err == nil || !isAway(err) {
			return err
		}
		fmt.Fprintf(os.Stderr, "not now: %s\n", status.Convert(err).Message())
		time.Sleep(pause)
	}
}

// newRequestID returns a random id.
func newRequestID() (string, error) {
	bytes := make([]byte, 16)
	_, err := rand.Read(bytes)
	return fmt.Sprintf("%x", bytes), err
}

// heard returns the next message of a watch. It cancels a watch that is silent for too long.
func heard[Message any](receive func() (Message, error), cancel context.CancelFunc) (Message, error) {
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	return receive()
}

// explain prints why a call was refused. The text is for people. The reason, from a google.rpc.ErrorInfo, is for
// programs.
func explain(err error) {
	refused := status.Convert(err)
	fmt.Fprintf(os.Stderr, "refused: %s\n", refused.Message())
	for _, detail := range refused.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Fprintf(os.Stderr, "reason %s %v\n", info.Reason, info.Metadata)
		}
	}
}

// isRefusal reports whether the service itself has refused the call, and has changed nothing.
func isRefusal(err error) bool {
	refused := status.Convert(err)
	switch refused.Code() {
	case codes.Unavailable, codes.Internal, codes.Unknown:
		return false
	}
	for _, detail := range refused.Details() {
		if _, ok := detail.(*errdetails.ErrorInfo); ok {
			return true
		}
	}
	return false
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
