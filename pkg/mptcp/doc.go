// Package mptcp is a client for the in-kernel path manager of Multipath TCP on Linux.
package mptcp
