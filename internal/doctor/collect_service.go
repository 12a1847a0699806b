package doctor

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

func askService[T any](ctx context.Context, c *collector, action string, call func(context.Context, *string) (T, error)) Fact[T] {
	if c.Setup.EndpointService == "" {
		return unanswered[T](unless(nil, "aws.endpoint_service is not set"))
	}
	return ask(ctx, c, action, func(ctx context.Context) (T, error) { return call(ctx, aws.String(c.Setup.EndpointService)) })
}

func (c *collector) service(ctx context.Context) {
	c.Service = askService(ctx, c, "ec2:DescribeVpcEndpointServiceConfigurations", func(ctx context.Context, id *string) (*Service, error) {
		out, err := c.ec2.DescribeVpcEndpointServiceConfigurations(ctx, &ec2.DescribeVpcEndpointServiceConfigurationsInput{ServiceIds: []string{*id}})
		if err != nil || len(out.ServiceConfigurations) == 0 {
			return nil, err
		}
		v := out.ServiceConfigurations[0]
		return &Service{ID: aws.ToString(v.ServiceId), Name: aws.ToString(v.ServiceName), State: string(v.ServiceState), Acceptance: aws.ToBool(v.AcceptanceRequired),
			Balancers: v.NetworkLoadBalancerArns, Zones: v.AvailabilityZones, Remote: aws.ToBool(v.RemoteAccessEnabled)}, nil
	})
	if f := c.Service.Failure; f != nil && f.WaitsFor == "service.found" {
		c.Service = Fact[*Service]{}
	}
}

func (c *collector) principals(ctx context.Context) {
	c.Principals = askService(ctx, c, "ec2:DescribeVpcEndpointServicePermissions", func(ctx context.Context, id *string) ([]string, error) {
		pages := ec2.NewDescribeVpcEndpointServicePermissionsPaginator(describeVpcEndpointServicePermissions(c.ec2.DescribeVpcEndpointServicePermissions), &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: id})
		var all []string
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, p := range out.AllowedPrincipals {
				all = append(all, aws.ToString(p.Principal))
			}
		}
		return all, nil
	})
}

func (c *collector) connections(ctx context.Context) {
	c.Connections = askService(ctx, c, "ec2:DescribeVpcEndpointConnections", func(ctx context.Context, id *string) ([]Connection, error) {
		pages := ec2.NewDescribeVpcEndpointConnectionsPaginator(describeVpcEndpointConnections(c.ec2.DescribeVpcEndpointConnections), &ec2.DescribeVpcEndpointConnectionsInput{Filters: []types.Filter{filter("service-id", *id)}})
		var all []Connection
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, x := range out.VpcEndpointConnections {
				if aws.ToString(x.ServiceId) != *id {
					continue
				}
				all = append(all, Connection{Endpoint: aws.ToString(x.VpcEndpointId), Owner: aws.ToString(x.VpcEndpointOwner), State: string(x.VpcEndpointState), Created: aws.ToTime(x.CreationTimestamp)})
			}
		}
		return all, nil
	})
}

func (c *collector) lock(ctx context.Context) {
	if c.Setup.Bucket.Name == "" {
		return
	}
	c.Lock = ask(ctx, c, "s3:GetBucketObjectLockConfiguration", func(ctx context.Context) (Lock, error) {
		out, err := c.s3.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: aws.String(c.Setup.Bucket.Name)})
		if err != nil {
			return c.noLock(err)
		}
		return lockOf(out.ObjectLockConfiguration), nil
	})
}

// noLock takes for an answer what S3 says of a bucket that isn't there, is
// elsewhere, or has no lock.
func (c *collector) noLock(err error) (Lock, error) {
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok && response.Response != nil {
		if region := response.Response.Header.Get("X-Amz-Bucket-Region"); region != "" && region != c.bucketRegion() {
			return Lock{Region: region}, nil
		}
	}
	api, ok := errors.AsType[smithy.APIError](err)
	switch {
	case ok && api.ErrorCode() == "NoSuchBucket":
		return Lock{Missing: true}, nil
	case ok && api.ErrorCode() == "ObjectLockConfigurationNotFoundError":
		return Lock{}, nil
	}
	return Lock{}, err
}

func lockOf(o *s3types.ObjectLockConfiguration) Lock {
	l := Lock{Enabled: o != nil && o.ObjectLockEnabled == s3types.ObjectLockEnabledEnabled}
	if l.Enabled && o.Rule != nil && o.Rule.DefaultRetention != nil {
		d := o.Rule.DefaultRetention
		l.Mode, l.Days = string(d.Mode), int(aws.ToInt32(d.Days))+365*int(aws.ToInt32(d.Years))
	}
	return l
}

func (c *collector) versioning(ctx context.Context) {
	if c.Setup.Bucket.Name == "" {
		return
	}
	c.Versioning = ask(ctx, c, "s3:GetBucketVersioning", func(ctx context.Context) (string, error) {
		out, err := c.s3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: aws.String(c.Setup.Bucket.Name)})
		if err != nil {
			return "", err
		}
		return string(out.Status), nil
	})
}

// keys asks for each key and tries, without doing it, whether it signs.
func (c *collector) keys(ctx context.Context) {
	c.Keys = make([]KeyFacts, len(c.Setup.Keys))
	var questions []func(context.Context)
	for i, k := range c.Setup.Keys {
		facts := &c.Keys[i]
		facts.Setting, facts.ARN, facts.Ed25519 = k.Setting, k.ARN, k.Ed25519
		questions = append(questions, func(ctx context.Context) { c.key(ctx, facts) })
	}
	c.inParallel(ctx, questions...)
}

func (c *collector) key(ctx context.Context, k *KeyFacts) {
	inRegion := func(o *kms.Options) {
		if r := arnPart(k.ARN, 3); r != "" {
			o.Region = r
		}
	}
	k.Key = ask(ctx, c, "kms:GetPublicKey", func(ctx context.Context) (Key, error) {
		out, err := c.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(k.ARN)}, inRegion)
		if reason := unusable(err); reason != "" {
			return Key{Unusable: reason}, nil
		}
		if err != nil {
			return Key{}, err
		}
		return Key{Spec: string(out.KeySpec), Usage: string(out.KeyUsage)}, nil
	})
	if k.Key.Failure != nil || k.Key.Value.Unusable != "" {
		k.Signing = unanswered[bool](waitFor("kms.key"))
		return
	}
	k.Signing = ask(ctx, c, "kms:Sign", func(ctx context.Context) (bool, error) {
		_, err := c.kms.Sign(ctx, &kms.SignInput{KeyId: aws.String(k.ARN), Message: make([]byte, 32), MessageType: kmstypes.MessageTypeRaw,
			SigningAlgorithm: algorithm(k.Key.Value.Spec), DryRun: aws.Bool(true)}, inRegion)
		var would *kmstypes.DryRunOperationException
		if err == nil || errors.As(err, &would) {
			return true, nil
		}
		return false, err
	})
}

// unusable is what KMS says of a key that is not there, or not for use.
func unusable(err error) string {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return ""
	}
	switch api.ErrorCode() {
	case "NotFoundException", "DisabledException", "KMSInvalidStateException", "UnsupportedOperationException":
		return api.ErrorMessage()
	}
	return ""
}

func algorithm(spec string) kmstypes.SigningAlgorithmSpec {
	switch spec {
	case "ECC_NIST_P256":
		return kmstypes.SigningAlgorithmSpecEcdsaSha256
	case "ECC_NIST_P384":
		return kmstypes.SigningAlgorithmSpecEcdsaSha384
	case "ECC_NIST_P521":
		return kmstypes.SigningAlgorithmSpecEcdsaSha512
	}
	return kmstypes.SigningAlgorithmSpecEd25519Sha512
}
