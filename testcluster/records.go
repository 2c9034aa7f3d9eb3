package testcluster

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// What the programs of a demonstration write down, to be judged afterwards.
// Times are unix nanoseconds: all processes run on one host.
type (
	// Asked is one request of the client program.
	Asked struct {
		Key, N      uint32 // the N-th request for this key, from 0
		DueNs       int64  // when it was to be sent
		AnsweredNs  int64  // 0: no answer
		By          byte   // name of the server that answered
		MaybeRepeat bool   // the answer says that the message may have been taken before
	}
	// Taken is one message that a server program was given.
	Taken struct {
		Key, N      uint32
		AtNs        int64
		MaybeRepeat bool
	}
)

// writeRecords writes a slice of Asked or Taken to a new file.
func writeRecords[T Asked | Taken](file string, records []T) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write records: %w", err)
	}
	w := bufio.NewWriter(f)
	err = binary.Write(w, binary.LittleEndian, records)
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write records: %w", err)
	}
	return nil
}

// readRecords is the reverse of writeRecords.
func readRecords[T Asked | Taken](file string) ([]T, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	var one T
	records := make([]T, info.Size()/int64(binary.Size(one)))
	if err := binary.Read(bufio.NewReader(f), binary.LittleEndian, records); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read records of %s: %w", file, err)
	}
	return records, nil
}
