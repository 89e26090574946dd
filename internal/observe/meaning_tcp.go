package observe

// tcpMeanings are the counters of TcpExt (net/ipv4/proc.c) that tell of paths,
// of what drops packets, and of hosts that are too small. They count plain TCP
// too.
var tcpMeanings = map[string]Meaning{
	"IPReversePathFilter": {
		trouble, "packets that were dropped because they came in by another link than answers would leave by (rp_filter)",
		"subflowctl check names the link; rp_filter=2 on it is the loose form",
	},
	"ArpFilter":         {usual, "ARP requests that were not answered because the route leads elsewhere (arp_filter)", ""},
	"TCPTimeouts":       {notable, "retransmission timeouts: nothing came back for a while", "subflowctl connections shows on which subflows packets are sent again"},
	"TCPSynRetrans":     {notable, "SYNs that were sent again: a host did not answer, or a path is dark", ""},
	"TCPLostRetransmit": {notable, "packets that were lost twice: a path is bad or full", ""},
	// Every refusal on the host itself but EBUSY (__tcp_retransmit_skb): where a link's queue is shorter than what TCP
	// sends, a healthy transfer has thousands.
	"TCPRetransFail": {
		notable, "packets that could not be sent again: no route, no memory, or the host's own queue was full",
		"subflowctl explain PEER shows the route from every address",
	},
	"TCPAbortOnTimeout": {notable, "sockets that were given up after retries: a path died under them", ""},
	"TCPSpuriousRTOs":   {notable, "timeouts that were none: the delay of a path jumps", ""},
	"TCPMTUPFail":       {notable, "probes for larger packets that failed: the MTU of a path is smaller than its link's", ""},
	"TcpTimeoutRehash":  {usual, "sockets that chose another way through the network after a timeout", ""},
	"TCPFastOpenBlackhole": {
		notable, "times that TCP Fast Open was switched off because its packets vanished", "",
	},
	"ListenOverflows":    {trouble, "connections that were dropped because a server did not accept them in time", "the server is too slow, or its backlog and net.core.somaxconn are too small"},
	"ListenDrops":        {notable, "SYNs to listening sockets that were dropped, for whatever reason", ""},
	"TCPReqQFullDrop":    {trouble, "SYNs that were dropped because too many handshakes were under way", "raise net.ipv4.tcp_max_syn_backlog, or allow net.ipv4.tcp_syncookies"},
	"TCPBacklogDrop":     {notable, "packets that were dropped because a busy socket's queue was full", ""},
	"TCPRcvQDrop":        {trouble, "packets that were dropped because a receive queue was full", "raise net.ipv4.tcp_rmem"},
	"TCPOFODrop":         {notable, "packets that came out of order and found no room", "raise net.ipv4.tcp_rmem"},
	"TCPZeroWindowDrop":  {notable, "packets that were dropped because the reader does not read", ""},
	"TCPMemoryPressures": {trouble, "times that TCP ran short of memory", "raise net.ipv4.tcp_mem, or close connections"},
	"TCPAbortOnMemory":   {trouble, "sockets that were broken off for lack of memory", "raise net.ipv4.tcp_mem or tcp_max_orphans"},
	"PFMemallocDrop":     {trouble, "packets that were dropped because the host had no memory left", ""},
	"TCPSACKReneging":    {notable, "peers that took back what they had confirmed, or paths that changed it", ""},
	"SyncookiesSent":     {notable, "handshakes that were answered with cookies because too many were under way", ""},
	"SyncookiesFailed":   {notable, "cookies that came back wrong", ""},
}
