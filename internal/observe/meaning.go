package observe

import "github.com/subflowd/subflowd/pkg/status"

// Meaning is what a counter of the kernel tells when it is not zero.
type Meaning struct {
	Level  status.CounterLevel
	Text   string
	Remedy string // what to do when it grows; may be empty
}

// MPTCPMeaning is the meaning of a counter of MPTcpExt (net/mptcp/mib.h and
// mib.c); false: it is newer than this table.
func MPTCPMeaning(name string) (Meaning, bool) {
	m, ok := mptcpMeanings[name]
	return m, ok
}

// TCPMeaning is the meaning of those counters of TcpExt that tell something of
// paths; false: it tells nothing of them.
func TCPMeaning(name string) (Meaning, bool) {
	m, ok := tcpMeanings[name]
	return m, ok
}

const (
	usual   = status.CounterUsual
	notable = status.CounterNotable
	trouble = status.CounterTrouble
)

var mptcpMeanings = map[string]Meaning{
	// Connections.
	"MPCurrEstab":       {usual, "MPTCP connections that are established now", ""},
	"MPCapableSYNTX":    {usual, "connections that this host began with Multipath TCP", ""},
	"MPCapableSYNRX":    {usual, "connections that peers began with Multipath TCP", ""},
	"MPCapableSYNACKRX": {usual, "servers that answered with Multipath TCP", ""},
	"MPCapableACKRX":    {usual, "handshakes of peers that ended with Multipath TCP", ""},
	"MPCapableFallbackSYNACK": {
		notable, "servers that answered with plain TCP: they do not speak Multipath TCP, or something on the way takes its option out",
		"subflowctl probe HOST:PORT tells which",
	},
	"MPCapableFallbackACK": {
		trouble, "clients whose handshake lost Multipath TCP in its last packet: something on the way takes the option out",
		"look for a firewall or proxy between the client and this host",
	},
	"MPCapableSYNTXDrop": {
		trouble, "connections that came through only as plain TCP after retries: something on the way drops SYNs with Multipath TCP",
		"subflowctl probe HOST:PORT over each path shows on which",
	},
	"MPCapableSYNTXDisabled": {
		notable, "connections that began as plain TCP because Multipath TCP was found to be dropped shortly before",
		"see net.mptcp.blackhole_timeout; subflowctl probe HOST:PORT shows the path",
	},
	"Blackhole": {
		trouble, "times that Multipath TCP was switched off for a while because SYNs with it vanished",
		"subflowctl probe HOST:PORT shows the path; net.mptcp.blackhole_timeout=0 switches this off",
	},
	"MPCapableEndpAttempt":  {notable, "connections that peers began at the port of a signalled endpoint, which takes joins only", ""},
	"MPFallbackTokenInit":   {trouble, "connections that became plain TCP because no token could be made", "the host is short of memory, or has millions of connections"},
	"MPCapableDataFallback": {trouble, "connections that became plain TCP because their first data lacked Multipath TCP: something on the way takes options out of data packets", "subflowctl probe HOST:PORT shows the path"},
	"MD5SigFallback":        {notable, "connections that are plain TCP because TCP-MD5 takes the room for options", ""},
	"SimultConnectFallback": {usual, "connections that became plain TCP because both ends began them at once", ""},

	// Joins.
	"MPJoinSynTx":    {usual, "further subflows that this host began", ""},
	"MPJoinSynAckRx": {usual, "further subflows that peers answered", ""},
	"MPJoinSynRx":    {usual, "further subflows that peers began", ""},
	"MPJoinAckRx":    {usual, "further subflows of peers whose handshake ended well", ""},
	"MPJoinSynBackupRx": {
		usual, "further subflows that peers began as backup", "",
	},
	"MPJoinSynAckBackupRx": {usual, "further subflows that peers answered as backup", ""},
	"MPJoinSynTxCreatSkErr": {
		trouble, "further subflows for which no socket could be made", "the host is short of memory or descriptors",
	},
	"MPJoinSynTxBindErr": {
		trouble, "further subflows whose address could not be bound: an endpoint's address was gone or not ready",
		"compare `ip mptcp endpoint` with `ip address`, or let subflowd keep the endpoints",
	},
	"MPJoinSynTxConnectErr": {
		trouble, "further subflows that found no route: a source address has no way out",
		"subflowctl explain PEER shows the route from every address",
	},
	"MPJoinNoTokenFound": {
		trouble, "joins of peers to a connection that is not here: it ended before, or a load balancer sends joins to another host than the connection",
		"let the load balancer pin clients, or announce an address of this host",
	},
	"MPJoinRejected": {
		trouble, "joins of peers that this host refused because the connection has as many subflows as the limits allow",
		"raise them: ip mptcp limits set subflows 8",
	},
	"MPJoinSynAckHMacFailure": {trouble, "answers to joins that failed their check: the peer is another host, or something on the way changes packets", "subflowctl probe HOST:PORT shows the path"},
	"MPJoinAckHMacFailure":    {trouble, "joins of peers that failed their check: something on the way changes packets, or somebody guesses", ""},

	// Addresses.
	"AddAddr":       {usual, "addresses that peers announced", ""},
	"AddAddrTx":     {usual, "addresses that were announced to peers", ""},
	"EchoAdd":       {usual, "announced addresses that peers confirmed", ""},
	"EchoAddTx":     {usual, "addresses of peers that were confirmed", ""},
	"PortAdd":       {usual, "addresses that peers announced with a port", ""},
	"AddAddrDrop":   {notable, "announced addresses that were not used because of the limit", "raise it: ip mptcp limits set add_addr_accepted 4"},
	"AddAddrTxDrop": {notable, "announcements that found no room in a packet and were left out", ""},
	"EchoAddTxDrop": {notable, "confirmations of addresses that found no room in a packet", ""},
	"RmAddr":        {usual, "addresses that peers withdrew", ""},
	"RmAddrTx":      {usual, "addresses that were withdrawn from peers", ""},
	"RmAddrDrop":    {notable, "withdrawals of peers that were of no known address", ""},
	"RmAddrTxDrop": {
		notable, "withdrawals that could not be sent: the peer keeps a place for an address that is gone, and may refuse joins later", "",
	},
	"RmSubflow":          {usual, "subflows that were closed because an address was withdrawn or an endpoint deleted", ""},
	"MPJoinPortSynRx":    {usual, "joins of peers at the port of a signalled endpoint", ""},
	"MPJoinPortSynAckRx": {usual, "answers to joins at a port that a peer announced", ""},
	"MPJoinPortAckRx":    {usual, "joins at the port of a signalled endpoint that ended well", ""},
	"MismatchPortSynRx":  {notable, "joins at a port that was not announced for the connection", ""},
	"MismatchPortAckRx":  {notable, "last packets of joins at a port that was not announced for the connection", ""},
	"MPPrioTx":           {usual, "times that this host called a subflow backup, or took it back", ""},
	"MPPrioRx":           {usual, "times that peers called a subflow backup, or took it back", ""},

	// Data.
	"MPTCPRetrans":   {notable, "pieces of data that were sent again by another subflow: a path was slow or dead", "subflowctl connections shows on which subflows packets are lost"},
	"SubflowStale":   {notable, "subflows that were set aside because nothing came back while others worked", "subflowctl connections shows which; a path may be dead"},
	"SubflowRecover": {usual, "subflows that were set aside and work again", ""},
	"OFOQueueTail":   {usual, "segments that waited at the end of the queue for earlier ones of another path", ""},
	"OFOQueue":       {usual, "segments that waited for earlier ones of another path", ""},
	"OFOMerge":       {usual, "waiting segments that were put together", ""},
	"DuplicateData":  {usual, "segments that had come already by another path", ""},
	"SndWndShared":   {usual, "times that the window of the whole connection was taken for a subflow", ""},
	"RcvWndShared":   {usual, "times that a subflow announced the window of the whole connection", ""},
	"RcvWndConflictUpdate": {
		usual, "times that two subflows announced windows at once and one was corrected", "",
	},
	"RcvWndConflict": {usual, "times that two subflows announced windows at once", ""},
	"WinProbe":       {notable, "probes of peers whose window stayed shut: the reader at the other end does not read", ""},
	"RcvPruned":      {trouble, "segments that were thrown away because a connection's receive buffer was full", "raise net.ipv4.tcp_rmem"},
	"NoDSSInWindow":  {notable, "packets without a mapping among others that had one: something on the way may take options out", ""},
	"DSSNotMatching": {trouble, "mappings that contradicted an earlier one: something on the way changes or splits packets", "subflowctl probe HOST:PORT shows the path"},
	"DSSNoMatchTCP":  {trouble, "mappings that did not fit TCP's sequence numbers: something on the way rewrites them", "switch sequence number rewriting off in the firewall"},
	"DSSCorruptionFallback": {
		trouble, "connections that became plain TCP because mappings were damaged on the way", "look for a proxy or firewall that rewrites TCP; net.mptcp.checksum_enabled=1 finds changed data",
	},
	"DSSCorruptionReset": {trouble, "subflows that were reset because mappings were damaged on the way", "look for a proxy or firewall that rewrites TCP"},
	"DssFallback":        {trouble, "connections that became plain TCP because mappings were missing or bad", "subflowctl probe HOST:PORT shows the path"},
	"FallbackFailed":     {trouble, "connections that could not become plain TCP any more and were reset instead", ""},
	"DataCsumErr":        {trouble, "data whose checksum was wrong: something on the way changes the content", "look for a proxy or an application gateway in a firewall"},
	"InfiniteMapTx":      {notable, "connections that this host told to go on as plain TCP", ""},
	"InfiniteMapRx":      {notable, "connections that peers told to go on as plain TCP", ""},
	"MPFailTx":           {trouble, "times that this host told a peer of damaged data", "something on the way changes the content: subflowctl probe HOST:PORT shows the path"},
	"MPFailRx":           {trouble, "times that a peer told of damaged data", "something on the way changes the content: subflowctl probe HOST:PORT shows the path"},

	// Ends.
	"MPFastcloseTx": {usual, "connections that this host broke off", ""},
	"MPFastcloseRx": {usual, "connections that peers broke off", ""},
	"MPRstTx":       {notable, "subflows that this host reset, with a reason", ""},
	"MPRstRx":       {notable, "subflows that peers reset, with a reason", "subflowctl monitor shows the reasons as they come"},
}
