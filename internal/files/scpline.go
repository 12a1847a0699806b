package files

import (
	"strconv"
	"strings"
)

// readTimes checks "T<mtime> <usec> <atime> <usec>", which -p sends before a
// file or directory.
func (s *SCP) readTimes(line []byte) error {
	parts := strings.Split(string(line[1:]), " ")
	if len(parts) != 4 {
		return errLine
	}
	for _, part := range parts {
		if _, err := strconv.ParseInt(part, 10, 64); err != nil {
			return errLine
		}
	}
	return s.await(awaited{kind: 'T'})
}

// readFile reads "C<mode> <size> <name>", which begins a file.
func (s *SCP) readFile(line string) error {
	command, size, name, err := entry(line)
	if err != nil {
		return err
	}
	s.file = newSCPFile(s.action, s.path(name), command, size)
	return s.await(awaited{kind: 'C', file: s.file})
}

// readDir reads "D<mode> 0 <name>", which begins a directory.
func (s *SCP) readDir(line string) error {
	command, _, name, err := entry(line)
	if err != nil {
		return err
	}
	dir := operation(Mkdir, s.path(name), "", command)
	if len(dir.Path) > maxPath {
		return errTooDeep
	}
	s.dirs = append(s.dirs, name)
	return s.await(awaited{kind: 'D', dir: dir})
}

// readEnd reads "E", which ends a directory.
func (s *SCP) readEnd(line []byte) error {
	if len(line) != 1 {
		return errLine
	}
	if err := s.leave(); err != nil {
		return err
	}
	return s.await(awaited{kind: 'E'})
}

// leave ends the innermost directory.
func (s *SCP) leave() error {
	if len(s.dirs) == 0 {
		return errLine
	}
	s.dirs = s.dirs[:len(s.dirs)-1]
	return nil
}

// path is a name in the directories that are open.
func (s *SCP) path(name string) string {
	return strings.Join(append(s.dirs[:len(s.dirs):len(s.dirs)], name), "/")
}

// entry reads the three parts of a C or D line.
func entry(line string) (command string, size int64, name string, err error) {
	command, rest, _ := strings.Cut(line, " ")
	length, name, ok := strings.Cut(rest, " ")
	if !ok || name == "" || len(command) < 5 || strings.Trim(command[1:], "01234567") != "" {
		return "", 0, "", errLine
	}
	size, err = strconv.ParseInt(length, 10, 64)
	if err != nil || size < 0 {
		return "", 0, "", errLine
	}
	return command, size, name, nil
}
