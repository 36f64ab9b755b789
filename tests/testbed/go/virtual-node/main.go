// Command virtual-node is the test bed's AKS virtual node: the azure-aci provider as published, on a Virtual Kubelet node,
// talking to an Azure Resource Manager endpoint on this machine instead of Azure.
//
// It sets up the node as azure-aci's own command does (taint, routes, workers); only the clients differ: they use
// plain HTTP and a constant token. It must not change what the provider does with pods.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	aci "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	"github.com/sirupsen/logrus"
	"github.com/virtual-kubelet/azure-aci/pkg/auth"
	"github.com/virtual-kubelet/azure-aci/pkg/client"
	"github.com/virtual-kubelet/azure-aci/pkg/provider"
	"github.com/virtual-kubelet/virtual-kubelet/log"
	logruslogger "github.com/virtual-kubelet/virtual-kubelet/log/logrus"
	"github.com/virtual-kubelet/virtual-kubelet/node"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	"github.com/virtual-kubelet/virtual-kubelet/node/nodeutil"
	v1 "k8s.io/api/core/v1"
)

// settings are the command line.
type settings struct {
	kubeconfig    string
	nodeName      string
	labels        labels
	listen        string
	tlsCert       string
	tlsKey        string
	workers       int
	armEndpoint   string
	armToken      string
	subscription  string
	resourceGroup string
	region        string
	vnet          string
	logLevel      string
}

func main() {
	var s settings
	flag.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster to join")
	flag.StringVar(&s.nodeName, "node-name", "virtual-node-aci-linux", "name of the node")
	flag.Var(&s.labels, "label", "a further label of the node, key=value; may be given several times")
	flag.StringVar(&s.listen, "listen", "127.0.0.1:10250", "address of the kubelet's API")
	flag.StringVar(&s.tlsCert, "tls-cert", "", "certificate of the kubelet's API")
	flag.StringVar(&s.tlsKey, "tls-key", "", "key of that certificate")
	flag.IntVar(&s.workers, "workers", 50, "pods that are worked on at once; azure-aci's own default is 50")
	flag.StringVar(&s.armEndpoint, "arm-endpoint", "", "URL of Azure Resource Manager")
	flag.StringVar(&s.armToken, "arm-token", "virtual-node", "bearer token sent to Azure Resource Manager")
	flag.StringVar(&s.subscription, "subscription", "", "subscription id")
	flag.StringVar(&s.resourceGroup, "resource-group", "", "resource group of the container groups")
	flag.StringVar(&s.region, "region", "westeurope", "a region that azure-aci knows")
	flag.StringVar(&s.vnet, "vnet", "testbed", "name of the virtual network")
	flag.StringVar(&s.logLevel, "log-level", "info", "log level")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "virtual-node:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	level, err := logrus.ParseLevel(s.logLevel)
	if err != nil {
		return err
	}
	logrus.SetLevel(level)
	log.L = logruslogger.FromLogrus(logrus.NewEntry(logrus.StandardLogger()))
	ctx = log.WithLogger(ctx, log.L)

	n, err := newNode(ctx, s)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

func newNode(ctx context.Context, s settings) (*nodeutil.Node, error) {
	host, port, err := splitAddress(s.listen)
	if err != nil {
		return nil, err
	}
	keyPair, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey)
	if err != nil {
		return nil, fmt.Errorf("the kubelet's key pair: %w", err)
	}
	kube, err := nodeutil.ClientsetFromEnv(s.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("the cluster's client: %w", err)
	}
	azure, err := newAzureClients(s)
	if err != nil {
		return nil, fmt.Errorf("the clients of Azure Resource Manager: %w", err)
	}
	if err := setProviderEnvironment(s); err != nil {
		return nil, err
	}
	credentials := auth.Config{AuthConfig: &auth.Authentication{SubscriptionID: s.subscription}}

	newProvider := func(cfg nodeutil.ProviderConfig) (nodeutil.Provider, node.NodeProvider, error) {
		p, err := provider.NewACIProvider(ctx, "", credentials, azure, cfg, s.nodeName, "Linux", host, port, "cluster.local", kube)
		if err != nil {
			return nil, nil, err
		}
		p.ConfigureNode(ctx, cfg.Node)
		return p, nil, nil
	}
	configure := func(cfg *nodeutil.NodeConfig) error {
		for key, value := range s.labels {
			cfg.NodeSpec.Labels[key] = value
		}
		cfg.NodeSpec.Spec.Taints = append(cfg.NodeSpec.Spec.Taints, v1.Taint{
			Key: "virtual-kubelet.io/provider", Value: "azure", Effect: v1.TaintEffectNoSchedule,
		})
		cfg.NodeSpec.Status.NodeInfo.KubeletVersion = "v1.25.0-vk-azure-aci-v1.6.4"
		cfg.NumWorkers = s.workers
		cfg.HTTPListenAddr = s.listen
		cfg.TLSConfig = &tls.Config{Certificates: []tls.Certificate{keyPair}, MinVersion: tls.VersionTLS12}

		routes := http.NewServeMux()
		cfg.Handler = api.InstrumentHandler(nodeutil.WithAuth(nodeutil.NoAuth(), routes))
		return nodeutil.AttachProviderRoutes(routes)(cfg)
	}
	return nodeutil.NewNode(s.nodeName, newProvider, nodeutil.WithClient(kube), configure)
}

// newAzureClients makes the provider's clients, which need nothing of Azure but the endpoint.
func newAzureClients(s settings) (*client.AzClientsAPIs, error) {
	options := &arm.ClientOptions{
		DisableRPRegistration: true,
		ClientOptions: policy.ClientOptions{
			InsecureAllowCredentialWithHTTP: true,
			Cloud: cloud.Configuration{
				ActiveDirectoryAuthorityHost: "https://login.invalid/",
				Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
					cloud.ResourceManager: {Endpoint: s.armEndpoint, Audience: "https://management.azure.com"},
				},
			},
		},
	}
	token := constantToken(s.armToken)
	containers, err := aci.NewContainersClient(s.subscription, token, options)
	if err != nil {
		return nil, err
	}
	groups, err := aci.NewContainerGroupsClient(s.subscription, token, options)
	if err != nil {
		return nil, err
	}
	location, err := aci.NewLocationClient(s.subscription, token, options)
	if err != nil {
		return nil, err
	}
	return &client.AzClientsAPIs{ContainersClient: containers, ContainerGroupClient: groups, LocationClient: location}, nil
}

// setProviderEnvironment hands over what the provider reads from nowhere but the environment. Without ACI_SUBNET_NAME it
// asks for no network of Azure.
func setProviderEnvironment(s settings) error {
	for key, value := range map[string]string{
		"ACI_RESOURCE_GROUP":      s.resourceGroup,
		"ACI_REGION":              s.region,
		"ACI_VNET_NAME":           s.vnet,
		"ACI_VNET_RESOURCE_GROUP": s.resourceGroup,
	} {
		if err := os.Setenv(key, value); err != nil {
			return err
		}
	}
	return os.Unsetenv("ACI_SUBNET_NAME")
}

func splitAddress(address string) (string, int32, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("--listen %q: %w", address, err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return "", 0, fmt.Errorf("--listen %q: %w", address, err)
	}
	return host, int32(port), nil
}

// constantToken is a credential that always answers with itself.
type constantToken string

func (t constantToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// labels is a flag that may be given several times.
type labels map[string]string

func (l *labels) String() string { return fmt.Sprint(map[string]string(*l)) }

func (l *labels) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("%q is not key=value", text)
	}
	if *l == nil {
		*l = labels{}
	}
	(*l)[key] = value
	return nil
}
