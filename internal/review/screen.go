package review

import (
	"bytes"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"

	"postern/internal/record"
)

// Bounds of the terminal that is emulated, in cells.
const (
	maxColumns = 500
	maxRows    = 200
)

// maxCluster bounds what is kept of a character and its combining marks, in
// bytes: a cell is no place for a flood of them.
const maxCluster = 64

// The work that a recording may cause, in cells that are moved or cleared: so
// much, and so much for each of its bytes. Past that, lines are still found,
// but they do not scroll and the screen is not cleared.
const (
	freeWork    = 32 << 20
	workPerByte = 10
)

// screen is an emulated terminal that tells what stood in its lines. A line is
// looked at whenever the cursor is about to leave it, and after each record,
// as that is what somebody saw for some time.
type screen struct {
	emit          func(Line)
	emulator      *vt.Emulator
	lexer         lexer
	columns, rows int
	at            time.Duration
	budget        int64 // cells

	dirty   bool     // there is text since the line was last looked at
	full    bool     // the row has no room: text goes on in the next one
	padded  bool     // its last column is empty only because a wide character did not fit
	wrapped string   // the rows of the line above the cursor's
	blank   bool     // the row was cleared and nothing was written to it
	line    drawn    // that was looked at, and may still grow
	last    []string // what each row was given out as
}

// drawn is a line that may still grow.
type drawn struct {
	row  int
	at   time.Duration
	text string
}

func newScreen(columns, rows int, emit func(Line)) *screen {
	s := &screen{emit: emit, budget: freeWork}
	s.lexer.emit = s.token
	s.size(columns, rows)
	s.renew()
	return s
}

// size bounds what the client said; a terminal that said nothing has 80 by 24.
func (s *screen) size(columns, rows int) {
	if columns <= 0 || rows <= 0 {
		columns, rows = 80, 24
	}
	s.columns, s.rows = min(columns, maxColumns), min(rows, maxRows)
	s.last = make([]string, s.rows)
}

// renew begins with an empty screen.
func (s *screen) renew() {
	s.emulator = vt.NewEmulator(s.columns, s.rows)
	s.emulator.SetScrollbackSize(1)
	s.dirty, s.full, s.wrapped = false, false, ""
}

func (s *screen) close() { s.emulator.Close() }

func (s *screen) take(r record.Record) {
	s.at = r.At
	switch r.Kind {
	case record.Stdout, record.Stderr:
		s.budget += int64(len(r.Data)) * workPerByte
		s.lexer.write(r.Data)
		s.look()
	case record.Resize:
		if columns, rows, ok := record.ParseSize(r.Data); ok {
			s.resize(int(columns), int(rows))
		}
	}
}

func (s *screen) end() {
	s.lexer.end()
	s.look()
	s.give(true)
}

func (s *screen) resize(columns, rows int) {
	s.look()
	s.give(false)
	s.size(columns, rows)
	s.moved()
	s.try(func() { s.emulator.Resize(s.columns, s.rows) })
}

// try does something with the emulator. One that panics has met what it does
// not know; the screen is then empty and the recording goes on.
func (s *screen) try(do func()) {
	defer func() {
		if recover() != nil {
			s.emulator.Close()
			s.renew()
		}
	}()
	do()
}

func (s *screen) feed(b []byte) {
	s.try(func() { s.emulator.Write(b) })
}

func (s *screen) token(t token) {
	switch {
	case t.kind == tokenText:
		s.text(t.b)
	case t.kind == tokenStyle:
		s.feed(t.b)
	case t.kind == tokenMove:
		s.move(t.b)
	default:
		s.control(t.b)
	}
}

// text writes b in pieces that end where a row is full, so that no row is left
// without having been looked at.
func (s *screen) text(b []byte) {
	for len(b) > 0 {
		room := s.columns - s.emulator.CursorPosition().X
		if s.full {
			s.wrap()
			room = s.columns // once something is written
		}
		n, width, kept := fit(b, room)
		if width > room && room < s.columns { // the character goes to the next row
			s.feed([]byte(" "))
			s.full, s.padded = true, true
			continue
		}
		s.feed(b[:kept])
		s.dirty, s.blank, s.full = true, false, width >= room
		b = b[n:]
	}
}

// wrap keeps the row that is full as the beginning of its line.
func (s *screen) wrap() {
	row := s.row()
	if s.padded {
		row = strings.TrimSuffix(row, " ")
	}
	s.wrapped += row
	s.full, s.padded = false, false
	s.work(s.columns * s.rows) // it may scroll, and cannot be kept from it
	if len(s.wrapped) >= maxLine {
		s.look()
		s.give(true)
		s.wrapped = ""
	}
}

// fit returns how many bytes of b, but at least one character, fit into so many
// columns, their width, and how many of them are worth to be kept.
func fit(b []byte, room int) (n, width, kept int) {
	n = min(len(b), max(room, 1))
	if i := bytes.IndexFunc(b[:min(n+1, len(b))], func(r rune) bool { return r >= 0x80 }); i < 0 {
		return n, n, n
	}
	n = 0
	for n < len(b) && (width < room || n == 0) {
		cluster, w := ansi.FirstGraphemeCluster(b[n:], ansi.GraphemeWidth)
		if n > 0 && (width+w > room || len(cluster) > maxCluster) {
			break
		}
		if len(cluster) > maxCluster {
			return len(cluster), w, whole(cluster, maxCluster)
		}
		n, width = n+len(cluster), width+w
	}
	return n, width, n
}

func (s *screen) control(b []byte) {
	switch b[0] {
	case '\n', '\v', '\f':
		s.look()
		s.give(true)
		s.moved()
		s.newline(b)
	default:
		s.look()
		s.full, s.padded = false, false
		s.feed(b)
	}
}

// newline goes to the next row or, when there was too much work, empties this.
func (s *screen) newline(b []byte) {
	if s.budget > freeWork/2 && s.work(s.columns*s.rows) { // what clears is worth more
		s.feed(b)
		return
	}
	if !s.blank {
		s.feed([]byte("\x1b[2K"))
		s.blank = true
	}
}

func (s *screen) move(b []byte) {
	s.look()
	s.moved()
	cells := s.columns
	switch final := b[len(b)-1]; {
	case final == 'b':
		n, _ := parameters(b[2 : len(b)-1])
		for _, n := range n {
			cells = max(cells, n)
		}
		s.dirty = true
	case b[1] != '[' || bytes.IndexByte([]byte("JLMSThl"), final) >= 0:
		cells *= s.rows
	}
	if !s.work(cells) {
		return
	}
	if final := b[len(b)-1]; final == 'J' || final == 'h' || final == 'l' {
		s.give(false)
		clear(s.last)
	}
	s.feed(b)
}

func (s *screen) moved() {
	s.full, s.padded, s.wrapped, s.blank = false, false, "", false
}

// work takes cells off the budget and says whether there were enough.
func (s *screen) work(cells int) bool {
	if s.budget < int64(cells) {
		return false
	}
	s.budget -= int64(cells)
	return true
}

// look sees what the line of the cursor has become.
func (s *screen) look() {
	if !s.dirty {
		return
	}
	s.dirty = false
	row := s.emulator.CursorPosition().Y
	text := strings.TrimRight(s.wrapped+s.row(), " ")
	if row != s.line.row && s.wrapped == "" || !strings.HasPrefix(text, s.line.text) {
		s.give(false)
	}
	if text != s.line.text {
		s.line = drawn{row, s.at, text}
	}
}

// give gives the line out that was looked at. Where a program only drew it
// again it is left out; a new line with the same text is one.
func (s *screen) give(ended bool) {
	l := s.line
	s.line = drawn{}
	if l.text == "" || l.row >= len(s.last) || !ended && s.last[l.row] == l.text {
		return
	}
	s.last[l.row] = l.text
	s.emit(Line{l.at, l.text})
}

// row is the text of the cursor's row.
func (s *screen) row() string {
	var b strings.Builder
	y := s.emulator.CursorPosition().Y
	for x := 0; x < s.columns; {
		cell := s.emulator.CellAt(x, y)
		if cell == nil {
			break
		}
		if cell.Content == "" && cell.Width <= 1 {
			b.WriteByte(' ')
		}
		b.WriteString(cell.Content)
		x += max(cell.Width, 1)
	}
	return b.String()
}
