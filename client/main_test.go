package client

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if nodeMain() {
		return
	}
	goleak.VerifyTestMain(m)
}
