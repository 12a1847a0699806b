package kms

import (
	"errors"
	"fmt"

	"github.com/aws/smithy-go"
)

// explain says what an operator can do about an error of a call that needs the
// IAM action.
func explain(action string, err error) error {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return fmt.Errorf("%s: KMS gave no answer; look at the way to it (VPC endpoint, security group, DNS) and at the credentials: %w", action, err)
	}
	if advice := advise(answer.ErrorCode(), action); advice != "" {
		return fmt.Errorf("%s: %s: %w", action, advice, err)
	}
	return fmt.Errorf("%s: KMS refuses it: %w", action, err)
}

func advise(code, action string) string {
	switch code {
	case "AccessDeniedException":
		return "allow " + action + " on the key to this host's role, in the role's policy and the key's"
	case "NotFoundException":
		return "KMS knows no such key in this region and account"
	case "DisabledException":
		return "the key is disabled: enable it"
	case "KMSInvalidStateException":
		return "the key is not usable; it may be pending deletion: cancel that, or configure another key"
	case "ThrottlingException", "LimitExceededException":
		return "KMS throttles it: this account asks too often"
	case "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "InvalidSignatureException":
		return "the credentials of this host are not valid, or its clock is wrong"
	}
	return ""
}
