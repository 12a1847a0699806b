package awsfake

import (
	"encoding/json"
	"net/http"
)

// secretsmanager answers as Secrets Manager does.
func (a *Account) secretsmanager(c call) (int, []byte) {
	if status, body, is := a.denied(c, "secretsmanager:"+c.Operation); is {
		return status, body
	}
	var in struct{ SecretId string }
	if err := json.Unmarshal(c.Body, &in); err != nil || c.Operation != "GetSecretValue" {
		return c.fail(http.StatusBadRequest, "InvalidRequestException", "no such operation, or not JSON")
	}
	value, ok := a.Secrets[in.SecretId]
	if !ok {
		return c.fail(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	return answerJSON(map[string]any{"Name": in.SecretId, "SecretString": value, "VersionId": "00000000-0000-0000-0000-000000000000"})
}
