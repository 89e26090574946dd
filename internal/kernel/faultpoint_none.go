//go:build !faultpoint

package kernel

func faultpoint() {}
