package files

import (
	"encoding/binary"
	"testing"
)

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// checkEnded fails unless operations are what any stream may leave behind.
func checkEnded(t *testing.T, ops []Operation, err error) {
	t.Helper()
	unreadable := 0
	for i, o := range ops {
		if o.Action == Unreadable {
			unreadable++
			if i != len(ops)-1 {
				t.Errorf("something was seen after the stream was unreadable: %+v", ops)
			}
		}
		if o.Action == "" || o.Protocol == "" || o.End.Before(o.Start) || o.Denied && !o.Failed {
			t.Errorf("got %+v", o)
		}
	}
	if (unreadable == 1) != (err != nil) || unreadable > 1 {
		t.Errorf("unreadable %d times, and Err is %v", unreadable, err)
	}
}

// packet is an SFTP packet; parts are byte, uint32, uint64 and string fields.
func packet(parts ...any) []byte {
	p := make([]byte, 4)
	for _, part := range parts {
		switch v := part.(type) {
		case byte:
			p = append(p, v)
		case uint32:
			p = binary.BigEndian.AppendUint32(p, v)
		case uint64:
			p = binary.BigEndian.AppendUint64(p, v)
		case string:
			p = append(binary.BigEndian.AppendUint32(p, uint32(len(v))), v...)
		}
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

func kind(k byte) byte { return k }
