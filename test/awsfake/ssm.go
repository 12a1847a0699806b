package awsfake

import (
	"encoding/json"
	"net/http"
)

// ssm answers as Parameter Store does.
func (a *Account) ssm(c call) (int, []byte) {
	if status, body, is := a.denied(c, "ssm:"+c.Operation); is {
		return status, body
	}
	var in struct {
		Name           string
		WithDecryption bool
	}
	if err := json.Unmarshal(c.Body, &in); err != nil || c.Operation != "GetParameter" {
		return c.fail(http.StatusBadRequest, "ValidationException", "no such operation, or not JSON")
	}
	value, ok := a.Parameters[in.Name]
	if !ok {
		return c.fail(http.StatusBadRequest, "ParameterNotFound", "")
	}
	if !in.WithDecryption {
		value = "AQICAHencrypted"
	}
	return answerJSON(map[string]any{"Parameter": map[string]any{"Name": in.Name, "Type": "SecureString", "Value": value, "Version": 1}})
}

// answerJSON is the answer of a service whose protocol is JSON.
func answerJSON(v any) (int, []byte) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return http.StatusOK, b
}
