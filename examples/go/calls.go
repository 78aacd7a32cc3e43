// The part of a client that each of its calls needs: patience while the service is away, and the reason of a refusal.
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
	// A watch says something every 15 seconds, be it a heartbeat: when it is silent for longer, the way to it is broken.
	silence = 45 * time.Second
	// Between two attempts to reach a service that is away.
	pause = time.Second
)

// isAway tells "not now" from "no": the service is restarting, or cannot be reached, and the job goes on in QEMU.
// Canceled is what our own watchdog makes of a silent watch.
func isAway(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled
}

// untilItAnswers repeats a call while the service is away. That is safe for calls that change something, since each has
// a request_id: what is repeated with the same id is done once, and gives the same answer.
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

// newRequestID gives an id that nobody else has.
func newRequestID() (string, error) {
	bytes := make([]byte, 16)
	_, err := rand.Read(bytes)
	return fmt.Sprintf("%x", bytes), err
}

// heard gives the next message of a watch; one that is silent for too long is cancelled.
func heard[Message any](receive func() (Message, error), cancel context.CancelFunc) (Message, error) {
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	return receive()
}

// explain says why a call was refused: for people the text, for programs the reason, which is in a google.rpc.ErrorInfo.
func explain(err error) {
	refused := status.Convert(err)
	fmt.Fprintf(os.Stderr, "refused: %s\n", refused.Message())
	for _, detail := range refused.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Fprintf(os.Stderr, "reason %s %v\n", info.Reason, info.Metadata)
		}
	}
}

// isRefusal tells whether the service itself has said no, and has changed nothing.
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
