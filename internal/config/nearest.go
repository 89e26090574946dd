package config

// nearest is the known word that a wrong one was probably meant to be; empty if
// none is near enough to be more than a guess.
func nearest(wrong string, known []string) string {
	const longest = 40 // bytes; no word that is known comes near
	if len(wrong) > longest {
		return ""
	}
	best, least := "", 1+max(1, len(wrong)/3)
	for _, k := range known {
		if d := distance(wrong, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters must be inserted, left out, replaced or swapped
// with their neighbour to make one word the other. Case does not count, nor
// does a dash for an underscore.
func distance(a, b string) int {
	// before2, before and row are the last three rows of the usual table.
	before2, before, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range before {
		before[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			differ := 1
			if letter(a[i-1]) == letter(b[j-1]) {
				differ = 0
			}
			row[j] = min(before[j]+1, row[j-1]+1, before[j-1]+differ)
			if i > 1 && j > 1 && letter(a[i-1]) == letter(b[j-2]) && letter(a[i-2]) == letter(b[j-1]) {
				row[j] = min(row[j], before2[j-2]+1)
			}
		}
		before2, before, row = before, row, before2
	}
	return before[len(b)]
}

func letter(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '-':
		return '_'
	}
	return c
}
