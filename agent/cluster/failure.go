package cluster

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// failure tells why a Job failed. The pods know best, but they may be gone; the
// Job's own condition remains.
func failure(job *batchv1.Job, failed *batchv1.JobCondition, pods []*corev1.Pod) verdict {
	v := verdict{state: protocol.Failed}
	disrupted := strings.Contains(failed.Message, string(corev1.DisruptionTarget))
	pod, name, end := culprit(pods)
	switch {
	case disrupted:
		v.reason, v.retry = protocol.NewReason(protocol.Disrupted, "%s", failed.Message), true
		for _, pod := range pods {
			if who := disruption(pod, ""); who != "" {
				v.reason = protocol.NewReason(protocol.Disrupted, "rank %d: %s", rankOf(pod), who)
				break
			}
		}
	case end != nil && name == workload.CodeContainer:
		v.reason = protocol.NewReason(protocol.CodeFetch, "%s", cmp.Or(tail(end.Message), "the launcher ended with "+describe(end.ExitCode)))
	case end != nil:
		v = terminated(job, pod, end)
	case pod != nil && pod.Status.Reason != "":
		// The node's kubelet would not run it: no fault of the job.
		v.reason, v.retry = protocol.NewReason(protocol.PodFailed, "%s: %s", pod.Status.Reason, pod.Status.Message), true
	default:
		v.reason = protocol.NewReason(protocol.PodFailed, "%s: %s", failed.Reason, failed.Message)
		if exit, ok := exitIn(failed.Message); ok {
			v.reason, v.exit = protocol.NewReason(protocol.ExitCode, "%s", describe(int32(exit))), &exit
		}
	}
	return v
}

// culprit finds the container that failed first: where several did, the others
// were most often ended for its sake. Where none did, pod is one that failed
// for another reason, if there is any.
func culprit(pods []*corev1.Pod) (pod *corev1.Pod, name string, end *corev1.ContainerStateTerminated) {
	for _, p := range pods {
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			t := c.State.Terminated
			if t != nil && t.ExitCode != 0 && (end == nil || t.FinishedAt.Before(&end.FinishedAt)) {
				pod, name, end = p, c.Name, t
			}
		}
	}
	if end != nil {
		return pod, name, end
	}
	for _, p := range pods {
		if p.Status.Phase == corev1.PodFailed {
			return p, "", nil
		}
	}
	return nil, "", nil
}

// terminated tells how a command ended.
func terminated(job *batchv1.Job, pod *corev1.Pod, end *corev1.ContainerStateTerminated) verdict {
	exit := int(end.ExitCode)
	v := verdict{state: protocol.Failed, exit: &exit}
	words := describe(end.ExitCode)
	if instances(job) > 1 {
		words = "rank " + strconv.Itoa(rankOf(pod)) + ": " + words
	}
	switch end.Reason {
	case "OOMKilled":
		limit := pod.Spec.Containers[0].Resources.Limits.Memory()
		v.reason = protocol.NewReason(protocol.OOMKilled, "the memory limit of %s was exceeded; %s", limit, words)
	case "StartError", "ContainerCannotRun":
		v.reason = protocol.NewReason(protocol.ContainerConfig, "%s: %s", end.Reason, end.Message)
	case "ContainerStatusUnknown":
		v = verdict{state: protocol.Failed, retry: true,
			reason: protocol.NewReason(protocol.Disrupted, "node %s lost the container: %s", pod.Spec.NodeName, end.Message)}
	default:
		if last := tail(end.Message); last != "" {
			words += "; its output ends with: " + last
		}
		v.reason = protocol.NewReason(protocol.ExitCode, "%s", words)
	}
	return v
}

// exitIn finds the exit code in the words of a pod failure policy's rule.
var exitCodeRE = regexp.MustCompile(`failed with exit code (\d+) matching`)

func exitIn(message string) (int, bool) {
	m := exitCodeRE.FindStringSubmatch(message)
	if m == nil {
		return 0, false
	}
	code, err := strconv.Atoi(m[1])
	return code, err == nil
}

// tail is the end of a container's last words, which tells most.
func tail(message string) string {
	const most = 1 << 10
	message = strings.TrimSpace(message)
	if len(message) <= most {
		return message
	}
	message = message[len(message)-most:]
	if _, rest, ok := strings.Cut(message, "\n"); ok && rest != "" {
		message = rest
	}
	return "…" + strings.ToValidUTF8(message, "")
}

// describe is an exit code for people.
func describe(code int32) string {
	if signal := signalName(code); signal != "" {
		return fmt.Sprintf("exit code %d (%s)", code, signal)
	}
	return fmt.Sprintf("exit code %d", code)
}

// signalName names the signal that an exit code of a shell or runtime stands
// for.
func signalName(code int32) string {
	switch syscall.Signal(code - 128) {
	case syscall.SIGKILL:
		return "SIGKILL"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGSEGV:
		return "SIGSEGV"
	case syscall.SIGABRT:
		return "SIGABRT"
	case syscall.SIGINT:
		return "SIGINT"
	}
	return ""
}
