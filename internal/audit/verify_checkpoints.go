package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// maxSigned bounds the text of one signed checkpoint, in bytes.
const maxSigned = 64 << 10

// mark is a checkpoint that the tree must give, from somewhere other than
// checkpoints.log.
type mark struct {
	Checkpoint
	kind, file string
	line       int64 // in file; 0 = all of it
	sigs       []note.Signature
}

// readAnchors reads the checkpoints that were stored elsewhere.
func (v *verifier) readAnchors() error {
	if v.opts.Anchors == "" {
		return nil
	}
	err := filepath.WalkDir(v.opts.Anchors, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := readBounded(path, maxSigned)
		if err != nil {
			return err
		}
		v.addAnchor(path, data)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the anchors: %w", err)
	}
	if v.report.Anchors == 0 && v.report.Fine() {
		return fmt.Errorf("read the anchors: %s holds none", v.opts.Anchors)
	}
	return nil
}

func (v *verifier) addAnchor(path string, data []byte) {
	name, err := filepath.Rel(v.opts.Anchors, path)
	if err != nil {
		name = path
	}
	c, _, err := v.keys.open(data)
	if err != nil {
		v.wrong(KindAnchor, name, "it is no checkpoint signed with the key of this log: %v", err)
		return
	}
	v.report.Anchors++
	v.marks = append(v.marks, mark{Checkpoint: c, kind: KindAnchor, file: name})
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// openCheckpoints reads checkpoint, and begins checkpoints.log.
func (v *verifier) openCheckpoints() error {
	s, newest, err := openSigned(v.opts.Dir)
	if err != nil {
		return err
	}
	v.signed = s
	v.judgeNewest(newest)
	if s == nil && v.beside != nil && v.beside.Size > 0 {
		v.wrong(KindCheckpoint, checkpointsFile, "it is missing")
	}
	slices.SortStableFunc(v.marks, func(a, b mark) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}

// openSigned opens checkpoints.log, nil where there is none, and reads
// checkpoint, nil likewise, as they were at the same time but for a checkpoint
// that is in the one and not yet in the other. The log may be open.
func openSigned(dir string) (*checkpointStream, []byte, error) {
	for {
		before, err := readNewest(dir)
		if err != nil {
			return nil, nil, err
		}
		s, err := openCheckpointStream(dir)
		if err != nil {
			return nil, nil, err
		}
		after, err := readNewest(dir)
		if err == nil && bytes.Equal(before, after) {
			return s, after, nil
		}
		s.close()
		if err != nil {
			return nil, nil, err
		}
	}
}

func readNewest(dir string) ([]byte, error) {
	data, err := readBounded(filepath.Join(dir, checkpointFile), maxSigned)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// judgeNewest takes in the file checkpoint, of which data is nil if there is
// none.
func (v *verifier) judgeNewest(data []byte) {
	if data == nil {
		return
	}
	v.newestText = data
	c, _, err := v.keys.open(data)
	if err != nil {
		v.wrong(KindCheckpoint, checkpointFile, "%v", err)
		return
	}
	v.beside = &mark{Checkpoint: c, kind: KindCheckpoint, file: checkpointFile}
	v.marks = append(v.marks, *v.beside)
	v.report.Origin = c.Origin
}

// checkpointStream reads the signed checkpoints of checkpoints.log, as far as
// it went when it was opened.
type checkpointStream struct {
	file *os.File
	in   *bufio.Reader
	line int64  // of the next line, from 1
	kept []byte // lines to read again, after an entry that was none
}

// openCheckpointStream returns nil where there is no checkpoints.log.
func openCheckpointStream(dir string) (*checkpointStream, error) {
	f, err := os.Open(filepath.Join(dir, checkpointsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &checkpointStream{file: f, in: bufio.NewReader(io.LimitReader(f, info.Size())), line: 1}, nil
}

func (s *checkpointStream) close() {
	if s != nil {
		s.file.Close()
	}
}

// next returns the text up to and with the second empty line, and whether that
// is there: what the end of the file tore, or what is no checkpoint, lacks it.
func (s *checkpointStream) next() (entry []byte, whole bool, err error) {
	empty := 0
	for empty < 2 && len(entry) < maxSigned {
		line, err := s.readLine()
		entry = append(entry, line...)
		if errors.Is(err, io.EOF) {
			return entry, false, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return entry, false, err
		}
		if len(line) == 1 {
			empty++
		}
	}
	return entry, empty == 2, nil
}

func (s *checkpointStream) readLine() ([]byte, error) {
	if len(s.kept) > 0 {
		line, rest, found := bytes.Cut(s.kept, []byte("\n"))
		if found {
			s.line++
			line = s.kept[:len(line)+1]
			s.kept = rest
			return line, nil
		}
		s.kept = nil
		more, err := s.in.ReadSlice('\n')
		return s.counted(append(bytes.Clone(line), more...), err)
	}
	line, err := s.in.ReadSlice('\n')
	return s.counted(line, err)
}

func (s *checkpointStream) counted(line []byte, err error) ([]byte, error) {
	if err == nil {
		s.line++
	}
	return line, err
}

// resume goes on, after an entry that was no checkpoint, with the next thing in
// it that looks like the beginning of one.
func (s *checkpointStream) resume(entry []byte, origin string) {
	begin := bytes.Index(entry, []byte("\n\n"+origin+"\n"))
	if origin == "" || begin < 0 {
		return
	}
	rest := bytes.Clone(entry[begin+2:])
	s.line -= int64(bytes.Count(rest, []byte("\n")))
	s.kept = append(rest, s.kept...)
}
