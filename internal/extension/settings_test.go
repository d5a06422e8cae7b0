package extension

import (
	"maps"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for typed, want := range map[string]map[string]string{
		"":                                      {},
		"enableTraining=TRUE":                   {EnableTraining: True},
		"enableTraining=fAlse":                  {EnableTraining: False},
		"volumePluginDir=/opt/volume-plugins":   {VolumePluginDir: "/opt/volume-plugins"},
		"imageMirror=Registry.example:5000/a/b": {ImageMirror: "Registry.example:5000/a/b"},
		"nodeSelector.kubernetes.io/os=linux nodeSelector.pool=": {"nodeSelector.kubernetes.io/os": "linux", "nodeSelector.pool": ""},
		"logAnalyticsWS=true installNvidiaDevicePlugin=false installBlobfuseSysctl=true installBlobfuseFlexvol=false": {
			LogAnalyticsWS: True, InstallNvidiaDevicePlugin: False, InstallBlobfuseSysctl: True, InstallBlobfuseFlexvol: False},
	} {
		got, err := Parse(strings.Fields(typed))
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", typed, got, err, want)
		}
	}
}

// TestWrongSettings: each error names what is wrong, and lists what there is.
func TestWrongSettings(t *testing.T) {
	many := strings.Repeat("x", 300)
	for typed, want := range map[string]string{
		"enableTraining":                          `"enableTraining" is not KEY=VALUE`,
		"enableTraining=yes":                      `enableTraining: "yes" is not True or False`,
		"enableTraining=":                         `enableTraining: "" is not True or False`,
		"enableTraining=True enableTraining=True": "enableTraining is given twice",
		"EnableTraining=True":                     "EnableTraining is written enableTraining",
		"enableInference=True":                    `there is no setting "enableInference"`,
		"=True":                                   `there is no setting ""`,
		"volumePluginDir=plugins":                 `volumePluginDir: "plugins" is not a folder on the nodes`,
		"volumePluginDir=/etc/../root":            "is not a folder on the nodes",
		"volumePluginDir=/":                       "is not a folder on the nodes",
		"volumePluginDir=/" + many:                "is not a folder on the nodes",
		"imageMirror=https://registry.example":    "is not a registry",
		"imageMirror=" + many + many:              "is not a registry",
		"nodeSelector.=x":                         `nodeSelector.KEY: ": x" is not a label with its value`,
		"nodeSelector.a=b/c":                      "is not a label with its value",
		"a=1 b=2 c=3 d=4 e=5 f=6 g=7":             "and 2 more",
	} {
		_, err := Parse(strings.Fields(typed))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", typed, err, want)
			continue
		}
		if !strings.HasSuffix(err.Error(), "valid settings are "+Valid()) {
			t.Errorf("%s: the error does not list what there is: %v", typed, err)
		}
	}
}

// TestDefaults: those of the document that this answers to.
func TestDefaults(t *testing.T) {
	for typed, want := range map[string]string{
		"":                    "False False True False False /etc/kubernetes/volumeplugins",
		"enableTraining=True": "True False True True True /etc/kubernetes/volumeplugins",
		"enableTraining=True installBlobfuseFlexvol=False": "True False True True False /etc/kubernetes/volumeplugins",
		"installBlobfuseSysctl=True":                       "False False True True False /etc/kubernetes/volumeplugins",
	} {
		given, err := Parse(strings.Fields(typed))
		if err != nil {
			t.Fatal(err)
		}
		all := Resolve(given)
		var got []string
		for _, key := range []string{EnableTraining, LogAnalyticsWS, InstallNvidiaDevicePlugin, InstallBlobfuseSysctl, InstallBlobfuseFlexvol, VolumePluginDir} {
			got = append(got, all[key])
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", typed, text, want)
		}
	}
}

func TestDiffer(t *testing.T) {
	is := map[string]string{"a": "1", "b": "2", "c": "3"}
	want := map[string]string{"a": "1", "b": "3", "d": ""}
	if got, text := Differ(is, want), "b is 2 and not 3 yet, c is 3 and is to go, d is not  yet"; got != text {
		t.Errorf("%q, want %q", got, text)
	}
	if got := Differ(want, want); got != "" {
		t.Errorf("what is the same differs: %s", got)
	}
}

// FuzzParse: whatever is typed, what is taken is taken again as it stands, and
// every error lists what there is.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"enableTraining=True", "enableTraining=true\nenableTraining=", "nodeSelector.kubernetes.io/os=linux", "volumePluginDir=/a/b",
		"imageMirror=registry.example:5000/mirror", "=", "a", "nodeSelector.=", "volumePluginDir=//", "imageMirror=a.b/c..d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		checked, err := Parse(strings.Split(typed, "\n"))
		if err != nil {
			if !strings.HasSuffix(err.Error(), Valid()) || len(err.Error()) > 4<<10 {
				t.Errorf("the error is %q", err)
			}
			return
		}
		again, err := Check(checked)
		if err != nil || !maps.Equal(again, checked) {
			t.Errorf("%q was taken as %q, and then not: %v", typed, checked, err)
		}
		if text := Differ(Resolve(checked), Resolve(again)); text != "" {
			t.Error(text)
		}
		for key, value := range checked {
			if strings.ContainsAny(key+value, " \t\n'\"{}\\") || len(key) > 400 || len(value) > maxValue {
				t.Errorf("%q=%q was taken", key, value)
			}
		}
	})
}
