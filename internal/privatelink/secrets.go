package privatelink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

const (
	parameterPrefix = "aws-ssm:"
	secretPrefix    = "aws-secretsmanager:"
	// secretPause is between tries of a start that waits for its keys.
	secretPause = time.Second
)

// IsSecret reports whether a reference in a configuration names a secret in AWS
// and no file: aws-ssm:NAME or aws-secretsmanager:ID.
func IsSecret(reference string) bool {
	return strings.HasPrefix(reference, parameterPrefix) && len(reference) > len(parameterPrefix) ||
		strings.HasPrefix(reference, secretPrefix) && len(reference) > len(secretPrefix)
}

// Secret reads a secret that IsSecret takes. It tries until ctx ends, unless
// AWS says that there is no such secret or that it may not be read. It needs
// ssm:GetParameter or secretsmanager:GetSecretValue, and kms:Decrypt where the
// key is not AWS's own.
func (c *Client) Secret(ctx context.Context, reference string) ([]byte, error) {
	if !IsSecret(reference) {
		return nil, fmt.Errorf("%q names no secret: want aws-ssm:NAME or aws-secretsmanager:ID", reference)
	}
	for {
		value, err := c.secret(ctx, reference)
		switch Reason(err) {
		case "":
			return value, nil
		case ReasonDenied, ReasonNotFound:
			return nil, fmt.Errorf("read %s: %w", reference, err)
		}
		t := time.NewTimer(secretPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("read %s: %w", reference, err)
		}
	}
}

func (c *Client) secret(ctx context.Context, reference string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.in(ctx)
	if err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(reference, parameterPrefix); ok {
		return parameter(ctx, s.secrets, name)
	}
	return secretValue(ctx, s.secrets, strings.TrimPrefix(reference, secretPrefix))
}

func parameter(ctx context.Context, api secretCalls, name string) ([]byte, error) {
	out, err := api.parameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	if err != nil {
		return nil, explain("ssm:GetParameter", err)
	}
	if out.Parameter == nil || aws.ToString(out.Parameter.Value) == "" {
		return nil, errors.New("ssm:GetParameter: the parameter has no value")
	}
	return []byte(*out.Parameter.Value), nil
}

func secretValue(ctx context.Context, api secretCalls, id string) ([]byte, error) {
	out, err := api.secret(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		return nil, explain("secretsmanager:GetSecretValue", err)
	}
	if text := aws.ToString(out.SecretString); text != "" {
		return []byte(text), nil
	}
	if len(out.SecretBinary) == 0 {
		return nil, errors.New("secretsmanager:GetSecretValue: the secret has no value")
	}
	return out.SecretBinary, nil
}
