package observe

import (
	"math"
	"strconv"
	"time"
)

// Bytes is a number of bytes in decimal units, with three digits at most:
// "512 B", "1.24 MB", "340 GB".
func Bytes(n uint64) string { return scaled(float64(n), "B") }

// BitRate is a rate of bytes in bits per second: "94.1 Mbit/s", "0 bit/s".
func BitRate(bytesPerSecond uint64) string { return scaled(8*float64(bytesPerSecond), "bit/s") }

func scaled(x float64, unit string) string {
	const prefixes = " kMGTPEZ"
	i := 0
	for x >= 999.5 && i < len(prefixes)-1 {
		x /= 1000
		i++
	}
	digits := 0
	if i > 0 {
		digits = max(0, 2-int(math.Log10(max(x, 1))))
		if x >= 99.95 || x >= 9.995 && digits > 1 {
			digits--
		}
	}
	s := strconv.FormatFloat(x, 'f', max(digits, 0), 64) + " "
	if i > 0 {
		s += string(prefixes[i])
	}
	return s + unit
}

// Short is a time that packets take: "84 us", "12.3 ms", "1.2 s".
func Short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " us"
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(d.Seconds()*1000, 'f', 2, 64) + " ms"
	case d < time.Second:
		return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
}
