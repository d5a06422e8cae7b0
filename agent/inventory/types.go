package inventory

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"github.com/trainrelay/trainrelay/protocol"
)

// ownTypes reads the InstanceTypes of amlarc.azureml.com/v1alpha1, the objects
// of Azure's own extension, where the cluster has them. Those that are none are
// left out: their quantities may be numbers or text.
func ownTypes(ctx context.Context, client kubernetes.Interface) (map[string]protocol.InstanceType, error) {
	raw, err := client.Discovery().RESTClient().Get().AbsPath("/apis/amlarc.azureml.com/v1alpha1/instancetypes").
		Param("limit", fmt.Sprint(protocol.MaxInventory)).DoRaw(ctx)
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseTypes(raw)
}

func parseTypes(raw []byte) (map[string]protocol.InstanceType, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Spec struct {
				NodeSelector map[string]string `json:"nodeSelector"`
				Resources    struct {
					Requests map[string]any `json:"requests"`
					Limits   map[string]any `json:"limits"`
				} `json:"resources"`
			} `json:"spec"`
		} `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("the cluster's instance types: %w", err)
	}
	types := map[string]protocol.InstanceType{}
	for _, item := range list.Items {
		t := protocol.InstanceType{NodeSelector: item.Spec.NodeSelector, Resources: protocol.Amounts{
			Requests: texts(item.Spec.Resources.Requests), Limits: texts(item.Spec.Resources.Limits),
		}}
		settings := protocol.ComputeSettings{DefaultInstanceType: item.Metadata.Name, InstanceTypes: map[string]protocol.InstanceType{item.Metadata.Name: t}}
		if settings.Validate() == nil && len(types) < protocol.MaxInventory {
			types[item.Metadata.Name] = t
		}
	}
	if len(types) == 0 {
		return nil, nil
	}
	return types, nil
}

func texts(amounts map[string]any) map[string]string {
	texts := map[string]string{}
	for name, amount := range amounts {
		if amount != nil {
			texts[name] = fmt.Sprint(amount)
		}
	}
	return texts
}
