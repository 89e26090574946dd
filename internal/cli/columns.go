package cli

import (
	"unicode"
	"unicode/utf8"
)

// wide are the scripts whose characters have two columns on a terminal: East
// Asian Width "W" (Unicode Standard Annex 11). Those of half width are in them
// too, and narrow.
var wide = []*unicode.RangeTable{
	unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo, unicode.Yi,
	{
		R16: []unicode.Range16{{Lo: 0x3000, Hi: 0x303e, Stride: 1}, {Lo: 0xff01, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1}},
		R32: []unicode.Range32{{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, {Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, {Lo: 0x1f900, Hi: 0x1faff, Stride: 1}},
	},
}

var halfWidth = &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0xff61, Hi: 0xffdc, Stride: 1}}}

// displayed is how wide a text is on a terminal.
func displayed(s string) int {
	n := 0
	for _, r := range s {
		n += columnsOf(r)
	}
	return n
}

func columnsOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, wide...) && !unicode.Is(halfWidth, r):
		return 2
	}
	return 1
}

// cut divides a text so that the first part has w columns at most; it has one
// character at least.
func cut(s string, w int) (head, rest string) {
	n := 0
	for i, r := range s {
		n += columnsOf(r)
		if _, first := utf8.DecodeRuneInString(s); n > w && i >= first {
			return s[:i], s[i:]
		}
	}
	return s, ""
}
