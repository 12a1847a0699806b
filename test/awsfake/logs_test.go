package awsfake_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"postern/test/awsfake"
)

func serveLogs(t *testing.T) (*awsfake.Logs, *cloudwatchlogs.Client) {
	t.Helper()
	s, cfg := serve(t, &awsfake.Account{})
	l := s.Logs()
	l.MakeGroup("g")
	return l, cloudwatchlogs.NewFromConfig(cfg)
}

func makeStream(t *testing.T, c *cloudwatchlogs.Client, group, stream string) string {
	t.Helper()
	_, err := c.CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream})
	if err != nil {
		return code(t, err)
	}
	return ""
}

// batch makes events at times that are ages before now.
func batch(message string, ages ...time.Duration) []types.InputLogEvent {
	var events []types.InputLogEvent
	for _, age := range ages {
		events = append(events, types.InputLogEvent{Message: aws.String(message), Timestamp: aws.Int64(time.Now().Add(-age).UnixMilli())})
	}
	return events
}

func TestStreamsAreMadeOnceInGroupsThatExist(t *testing.T) {
	_, c := serveLogs(t)
	for _, made := range []struct{ group, stream, want string }{
		{"g", "b", ""}, {"g", "a", ""}, {"g", "a", "ResourceAlreadyExistsException"}, {"none", "a", "ResourceNotFoundException"},
		{"g", "a:b", "InvalidParameterException"}, {"g", "a*", "InvalidParameterException"}, {"g", strings.Repeat("s", 513), "InvalidParameterException"},
	} {
		if got := makeStream(t, c, made.group, made.stream); got != made.want {
			t.Errorf("%.20s in %s: %q, want %q", made.stream, made.group, got, made.want)
		}
	}
	out, err := c.DescribeLogStreams(t.Context(), &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g")})
	if err != nil || len(out.LogStreams) != 2 || aws.ToString(out.LogStreams[0].LogStreamName) != "a" {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestPutLogEventsHasTheLimitsOfItsReference puts a batch at each limit and one
// beyond it.
func TestPutLogEventsHasTheLimitsOfItsReference(t *testing.T) {
	const day = 24 * time.Hour
	many := func(n int) []types.InputLogEvent { return slices.Repeat(batch("m", 0), n) }
	sized := func(sizes ...int) []types.InputLogEvent {
		var events []types.InputLogEvent
		for _, size := range sizes {
			events = append(events, batch(strings.Repeat("x", size), 0)...)
		}
		return events
	}
	for name, c := range map[string]struct {
		events []types.InputLogEvent
		taken  bool
	}{
		"10,000 events":       {many(10_000), true},
		"10,001 events":       {many(10_001), false},
		"none":                {[]types.InputLogEvent{}, false},
		"1,048,576 bytes":     {sized(524_262, 524_262), true},
		"1,048,577 bytes":     {sized(524_262, 524_263), false},
		"one as large":        {sized(1_048_550), true},
		"one larger":          {sized(1_048_551), false},
		"an empty message":    {sized(0), false},
		"24 hours":            {batch("m", day-time.Second, 0), true},
		"more than 24 hours":  {batch("m", day+time.Minute, 0), false},
		"with one too old":    {batch("m", 15*day, day-time.Minute, 0), true},
		"the wrong order":     {batch("m", 0, time.Minute), false},
		"a negative time":     {[]types.InputLogEvent{{Message: aws.String("m"), Timestamp: aws.Int64(-1)}}, false},
		"all of the same age": {many(3), true},
	} {
		logs, client := serveLogs(t)
		makeStream(t, client, "g", "s")
		_, err := client.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), LogEvents: c.events})
		switch {
		case c.taken && err != nil:
			t.Errorf("%s: %v", name, err)
		case !c.taken && (err == nil || code(t, err) != "InvalidParameterException" || len(logs.Puts()) > 0):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPutLogEventsSaysWhichItRejected(t *testing.T) {
	logs, c := serveLogs(t)
	makeStream(t, c, "g", "s")
	out, err := c.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"),
		LogEvents: batch("m", 15*24*time.Hour, time.Hour, 0, -3*time.Hour, -4*time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	info := out.RejectedLogEventsInfo
	if info == nil || aws.ToInt32(info.TooOldLogEventEndIndex) != 1 || aws.ToInt32(info.TooNewLogEventStartIndex) != 3 {
		t.Errorf("%+v", info)
	}
	if got := logs.Events("g", "s"); len(got) != 2 {
		t.Errorf("%d events were taken", len(got))
	}
}

func TestPutLogEventsMakesNoStream(t *testing.T) {
	_, c := serveLogs(t)
	for _, name := range [][2]string{{"g", "none"}, {"none", "s"}} {
		_, err := c.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: &name[0], LogStreamName: &name[1], LogEvents: batch("m", 0)})
		if err == nil || code(t, err) != "ResourceNotFoundException" {
			t.Errorf("%q: %v", name, err)
		}
	}
}
