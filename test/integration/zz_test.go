package integration
import ("fmt";"testing";"time";"github.com/subflowd/subflowd/test/lab")
func TestZZ(t *testing.T){
 for i := range 24 { t.Run(fmt.Sprint(i), func(t *testing.T){
 t.Parallel()
 n := lab.TwoSubnets(t, lab.IPv6Only(), lab.RefuseJoins())
 strictServer(n)
 _, err := n.Client.TryDial("[2001:db8:9::2]:5001", lab.Within(3*time.Second))
 if err != nil {
  t.Log(n.Client.GetSysctl("net.ipv6.conf.all.forwarding"),n.Router.GetSysctl("net.ipv6.conf.all.forwarding"),n.Router.GetSysctl("net.ipv6.conf.r0.forwarding"),n.Router.GetSysctl("net.ipv6.conf.rs.forwarding"))
 t.Log(n.Client.Ping(n.ServerAddr6,""))
 t.Log(n.Client.Ping("2001:db8:9::1",""))
 t.Log(n.Server.Ping("2001:db8:9::1",""))
 t.Log(n.Router.Ping("2001:db8:9::2",""))
 t.Log(n.Router.IP("-6 route get 2001:db8:9::2 from 2001:db8:1::2 iif r0"))
 t.Log(n.Server.IP("-6 route get 2001:db8:1::2"))
 t.Fatal(err)
 }
 })}
}
