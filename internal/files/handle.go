package files

import (
	"math"
	"time"
)

// file is a handle that the target gave out: an open file or directory.
type file struct {
	op     Operation
	handle string
	in     ordered // what the client reads
	out    ordered // what the client writes
	end    uint64  // lowest offset at which the target said that the file ends
	short  uint64  // where the last answer ended that was shorter than asked
	listed bool    // a directory's names have all been sent
	writes int     // WRITEs that are not answered
	tail   uint64  // how long the file may be beside what is written: 0 when truncated, no bound when not
	mixed  bool    // the file holds what was not seen here: appended to, copied into, cut
	cut    bool    // the stream ended before the handle was closed
}

func newFile(about *Operation, handle string, flags uint32, early *window) *file {
	f := &file{
		op:     *about,
		handle: handle,
		in:     ordered{window: early},
		out:    ordered{window: early},
		end:    math.MaxUint64,
		mixed:  flags&fxfAppend != 0,
	}
	if flags&(fxfTrunc|fxfExcl) == 0 {
		f.tail = math.MaxUint64
	}
	return f
}

// result is the operation as it stands, without a handle to wait for any more.
func (f *file) result() Operation {
	o := f.op
	switch {
	case o.Action == List:
		o.Partial = !f.listed
	case o.Action == Get || o.Action == Update && o.BytesWritten == 0:
		whole := f.wholeIn()
		o.SHA256, o.Partial = f.in.hex(whole), !whole
	default:
		whole := f.wholeOut()
		o.SHA256, o.Partial = f.out.hex(whole), !whole
	}
	o.Partial = o.Partial || f.cut || o.Failed
	f.in.stop()
	f.out.stop()
	return o
}

// wholeIn says that the target sent all of the file: it said that the file ends
// where the data does, or it sent less than was asked, which section 6.4 allows
// at the end only, and had no more where the client asked next.
func (f *file) wholeIn() bool {
	at := f.in.next
	ended := at == f.end || at == f.short && f.end != math.MaxUint64 || f.op.Size >= 0 && at == uint64(f.op.Size)
	return f.in.whole() && ended
}

func (f *file) wholeOut() bool {
	return f.out.whole() && !f.mixed && f.tail <= f.out.next && f.writes == 0
}

// whole says that nothing came twice, nor is missing before what came.
func (o *ordered) whole() bool { return !o.broken && len(o.pieces) == 0 }

// resized notes that the client sets the file's size: before it writes, or like
// scp after it, to cut what was there before.
func (f *file) resized(size uint64) {
	f.tail = size
	f.mixed = f.mixed || size < f.out.next
}

// request is what the target has not answered yet.
type request struct {
	kind   byte
	number uint32     // OPEN: its flags; READ: how much; FSETSTAT: attrSize where it sets the size
	names  bool       // it names a handle
	file   *file      // whose handle that is; nil if nobody gave it out
	offset uint64     // READ
	about  *Operation // of requests that are an operation, or open one; STAT and LSTAT: only the path
}

// held is how many bytes r keeps beside itself.
func (r request) held() int {
	if r.about == nil {
		return 0
	}
	return 256 + len(r.about.Path) + len(r.about.To)
}

// operation is one that begins with the packet being read.
func operation(action, path, to, command string) *Operation {
	return &Operation{Action: action, Path: path, To: to, Size: -1, Command: command, Start: time.Now()}
}
