package status

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// documents are all that is ever sent.
var documents = []any{Document{}, Plan{}, Reconciled{}, Reloaded{}, Explanation{}, Waited{}, Version{}, Failure{}, Connections{}, KernelCounters{}, Event{}, Checked{}, ProbeReport{}}

// fill sets every field to something that is not its zero value.
func fillValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillValue(v.Index(0))
		fillValue(v.Index(1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 3, 1, 11, 0, 0, 5e8, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fillValue(v.Field(i))
		}
	default:
		panic("a field of kind " + v.Kind().String())
	}
}

func TestRoundTrip(t *testing.T) {
	for _, d := range documents {
		full := reflect.New(reflect.TypeOf(d))
		fillValue(full.Elem())
		if f := full.Elem().FieldByName("Schema"); f.IsValid() {
			f.SetInt(Schema)
		}
		text, err := json.Marshal(full.Interface())
		if err != nil {
			t.Fatal(err)
		}
		again := reflect.New(reflect.TypeOf(d))
		if err := json.Unmarshal(text, again.Interface()); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(full.Interface(), again.Interface()) {
			t.Errorf("%T\nwant:  %+v\nfound: %+v", d, full.Elem(), again.Elem())
		}
	}
}

// TestEmptyDocuments have a schema number and no null.
func TestEmptyDocuments(t *testing.T) {
	for _, d := range []any{Document{Paths: make([]Path, 1), Endpoints: make([]Endpoint, 1)}, Plan{}, Reconciled{}, Reloaded{}, Explanation{Links: make([]LinkExplanation, 1), Addresses: make([]AddressExplanation, 1)}, Waited{}, Connections{Connections: make([]Connection, 2)}, KernelCounters{}} {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "null") || !strings.HasPrefix(string(text), `{"schema":1,`) {
			t.Errorf("%T: %s", d, text)
		}
	}
}

var keyForm = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// keys calls f for every JSON key of a type, with the field's type.
func keys(t reflect.Type, f func(owner reflect.Type, key string, of reflect.Type)) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return
	}
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		f(t, key, t.Field(i).Type)
		keys(t.Field(i).Type, f)
	}
}

func TestKeys(t *testing.T) {
	for _, d := range documents {
		keys(reflect.TypeOf(d), func(owner reflect.Type, key string, of reflect.Type) {
			if !keyForm.MatchString(key) {
				t.Errorf("%s: key %q is not snake_case", owner, key)
			}
			if of.Kind() == reflect.Float64 && !strings.HasSuffix(key, "_seconds") || of == reflect.TypeFor[time.Duration]() {
				t.Errorf("%s: key %q is a duration that does not say its unit", owner, key)
			}
		})
	}
}

// TestReference wants every key of every document explained.
func TestReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "status-schema.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		sections[title] = body
	}
	for _, d := range documents {
		keys(reflect.TypeOf(d), func(owner reflect.Type, key string, _ reflect.Type) {
			if body, ok := sections[owner.Name()]; !ok {
				t.Errorf("docs/status-schema.md has no section %q", owner.Name())
			} else if !strings.Contains(body, "`"+key+"`") {
				t.Errorf("docs/status-schema.md, section %s, says nothing of `%s`", owner.Name(), key)
			}
		})
	}
	for _, w := range []string{
		string(Converged), string(Converging), string(Failing), string(Live), string(Grace), string(Dark), string(IPv4), string(IPv6),
		string(ProbeUnknown), string(ProbeAnswers), string(ProbeSilent), string(ProbeDown), string(Wanted), string(Missing), string(Foreign), string(Lingering), string(Info), string(Warning), string(Error),
	} {
		if !strings.Contains(string(text), "`"+w+"`") {
			t.Errorf("docs/status-schema.md says nothing of the word `%s`", w)
		}
	}
}
