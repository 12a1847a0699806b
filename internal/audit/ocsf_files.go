package audit

import (
	"path"
	"strconv"
	"strings"
)

// fileActivity is OCSF's FTP Activity, which SFTP, scp and rsync share.
func (w *encoder) fileActivity() {
	op := w.e.FileOp
	if op == nil {
		op = &FileOperation{Size: -1}
	}
	w.sessionActor()
	w.network()
	w.str("app_protocol_name", w.e.Kind)
	w.str("command", op.Command)
	w.answer(op)
	w.str("name", op.paths())
	w.file(op)
	if op.movesBytes() || w.e.BytesIn != 0 || w.e.BytesOut != 0 {
		w.bytes("traffic", w.e.BytesIn, w.e.BytesOut)
		w.timespan()
		w.close()
	}
}

// The reasons of FileOp in protocols whose answers are free text.
const (
	reasonFileDenied = "file_denied"
	reasonFileFailed = "file_failed"
)

// reason is why an operation failed that has no Event.Reason.
func (op *FileOperation) reason() string {
	switch {
	case op.isSFTP():
		return op.Status
	case op.Denied:
		return reasonFileDenied
	}
	return reasonFileFailed
}

func (op *FileOperation) isSFTP() bool { return strings.HasPrefix(op.Status, "SSH_FX_") }

// answer is what the client was told of the operation.
func (w *encoder) answer(op *FileOperation) {
	if op.isSFTP() {
		w.key("codes")
		w.b = append(strconv.AppendUint(append(w.b, '['), uint64(op.Code), 10), ']')
	}
	if op.Status != "" {
		w.key("command_responses")
		w.strings([]string{op.Status})
	}
}

// paths is what the operation is about, on one line for a reader.
func (op *FileOperation) paths() string {
	if op.To == "" {
		return op.Path
	}
	return op.Path + " -> " + op.To
}

func (op *FileOperation) movesBytes() bool {
	switch op.Action {
	case "get", "put", "update":
		return true
	}
	return false
}

func (w *encoder) file(op *FileOperation) {
	if op.Path == "" {
		return
	}
	w.open("file")
	w.str("name", path.Base(op.Path))
	w.str("path", op.Path)
	kind, caption := op.fileType()
	w.id("type", kind, caption)
	if op.Size >= 0 {
		w.num("size", op.Size)
	}
	if op.SHA256 != "" {
		w.array("hashes", func() { w.sha256(op.SHA256) })
	}
	w.close()
}

// fileType is what the operation says Path is. The gate doesn't look.
func (op *FileOperation) fileType() (int, string) {
	switch op.Action {
	case "get", "put", "update":
		return 1, "Regular File"
	case "list", "mkdir", "rmdir":
		return 2, "Folder"
	}
	return 0, "Unknown"
}

// fileFacts is what OCSF has no place for.
func (w *encoder) fileFacts() {
	op := w.e.FileOp
	if w.e.Code != FileOp || op == nil {
		return
	}
	w.fact("operation", op.Action)
	w.fact("target_path", op.To)
	if op.SHA256 != "" {
		w.truthFact("hash_complete", !op.Partial)
	}
	if op.Action == "list" {
		w.numberFact("entries", int64(op.Entries))
	}
	if !w.e.Start.IsZero() && !w.e.End.IsZero() {
		w.numberFact("duration_ms", w.e.End.Sub(w.e.Start).Milliseconds())
	}
}

// recording reports whether the event is of a recording's file.
func (w *encoder) recording() bool { return strings.HasPrefix(string(w.e.Code), "recording.") }

// recordingPlace is from where to where the recorded session goes.
func (w *encoder) recordingPlace() {
	w.sourceEndpoint()
	if !w.e.hasTarget() {
		return
	}
	w.open("dst_endpoint")
	w.targetAddress()
	if port := w.e.Target.Port(); port != 0 {
		w.num("port", int64(port))
	}
	w.close()
}
