// SPDX-License-Identifier: Apache-2.0

// CoreDNS with the plugins of its own tree. A module of its own, because it wants other versions of what
// it shares with Kubernetes.
package main

import (
	_ "github.com/coredns/coredns/core/plugin"
	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
