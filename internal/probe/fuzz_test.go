package probe

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzSocketOptions feeds anything to the decoders of getsockopt(2) at level
// SOL_MPTCP, in a buffer of the size that was given to the kernel.
func FuzzSocketOptions(f *testing.F) {
	fallback := make([]byte, 16)
	fallback[offsetFlags] = infoFallback
	f.Add(fallback, []byte{}, []byte{})
	two := binary.NativeEndian.AppendUint32(make([]byte, 4), 2)
	six := append(binary.NativeEndian.AppendUint16(make([]byte, sizeSubflowData), unix.AF_INET6), 0x13, 0x89)
	f.Add(make([]byte, 64), append(two, six...), two)
	f.Fuzz(func(t *testing.T, mptcp, addrs, tcp []byte) {
		if i := decodeInfo(mptcp); !i.mptcp && i != (info{}) || i.subflowsMax > 255 {
			t.Errorf("%+v", i)
		}
		array := func(b []byte, size int) [][]byte {
			whole := make([]byte, sizeSubflowData+mostSubflows*size)
			copy(whole, b)
			return elements(whole, size)
		}
		a, i := array(addrs, sizeSubflowAddrs), array(tcp, sizeTCPInfo)
		if len(a) > mostSubflows || len(i) > mostSubflows {
			t.Fatalf("%d and %d subflows", len(a), len(i))
		}
		for n := range min(len(a), len(i)) {
			if s := decodeSubflow(a[n], i[n]); !s.local.IsValid() || s.remote.Addr().Is4In6() || s.rtt < 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}
