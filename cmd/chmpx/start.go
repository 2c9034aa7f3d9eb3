package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/node"
)
